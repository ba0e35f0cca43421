// The pictures of this visit and the answers to them, asked for once per picture, version and mode.

import { CallError, predict } from "./api.js";

const AT_ONCE = 4; // requests of one page; the server batches them

export class Session {
  #serial = 0;
  #running = 0;
  #waiting = [];
  #changed;

  /** @param {() => void} changed called whenever an answer or an error has arrived */
  constructor(changed) {
    this.pictures = [];
    this.#changed = changed;
  }

  /** Add files; returns their pictures. What is no image is the server's to say. */
  add(files) {
    const added = [...files].map((file) => {
      const picture = {
        id: ++this.#serial,
        name: file.name || `pasted-${this.#serial}.png`,
        file,
        url: URL.createObjectURL(file),
        image: null, // decoded by the browser, which may let go of the pixels of many
        shown: null,
        results: new Map(),
        abort: new AbortController(),
      };
      const image = new Image();
      image.src = picture.url;
      picture.shown = image.decode().then(
        () => (picture.image = image),
        () => null, // TIFF, or no image: the answer tells its size, or what is wrong
      );
      return picture;
    });
    this.pictures.push(...added);
    return added;
  }

  /** Forget a picture; what still runs for it is called off. */
  remove(picture) {
    picture.abort.abort();
    URL.revokeObjectURL(picture.url);
    this.pictures = this.pictures.filter((other) => other !== picture);
  }

  /**
   * The result for a picture, asked for if it was not: `{state: "waiting" | "done" | "failed", ...}`.
   * @param {{model: string, version: string, tta: boolean, least: number}} wanted
   */
  result(picture, wanted) {
    const key = JSON.stringify([wanted.model, wanted.version, wanted.tta]);
    let result = picture.results.get(key);
    if (!result) {
      result = { state: "waiting", key, items: new Map() };
      picture.results.set(key, result);
      this.#waiting.push({ picture, wanted, result });
      this.#next();
    }
    return result;
  }

  /** Ask again for what has failed. */
  retry(picture) {
    for (const [key, { state }] of picture.results) if (state === "failed") picture.results.delete(key);
  }

  #next() {
    while (this.#running < AT_ONCE && this.#waiting.length > 0) {
      const job = this.#waiting.shift();
      if (job.picture.abort.signal.aborted) continue;
      this.#running++;
      this.#run(job).finally(() => {
        this.#running--;
        this.#next();
        if (!job.picture.abort.signal.aborted) this.#changed();
      });
    }
  }

  async #run({ picture, wanted, result }) {
    try {
      const [got] = await Promise.all([ask(picture, wanted), picture.shown]);
      Object.assign(result, got, { state: "done" });
    } catch (error) {
      Object.assign(result, { state: "failed", error });
    }
  }
}

/** One call at the version's own threshold, below which nothing is computed. */
async function ask(picture, { model, version, tta, least }) {
  const query = { model, version, score_threshold: least, segmentation: "rle", tta: tta ? "full" : null };
  const send = () => predict(picture.file, picture.name, query, picture.abort.signal);
  try {
    return await send();
  } catch (error) {
    // Another version than the current one may have a threshold of its own; the refusal tells it.
    const own = error.details?.minimum;
    if (!(error instanceof CallError) || error.code !== "score_threshold_too_low" || !own) throw error;
    query.score_threshold = own;
    return send();
  }
}
