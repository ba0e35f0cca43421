// The panel beside the picture: classes, instances, timing.

import { byId, element, setText, swatch } from "./dom.js";

const MOST_ROWS = 300;

/** The strip of thumbnails. */
export function showFilm(pictures, current, choose) {
  const film = byId("film");
  const facts = pictures.map((picture) => ({
    picture,
    failed: [...picture.results.values()].some(({ state }) => state === "failed"),
  }));
  // Made anew only when it differs: pictures that are made anew flicker.
  const state = JSON.stringify(facts.map(({ picture, failed }) => [picture.id, failed, Boolean(picture.image), picture === current]));
  if (film.dataset.state === state) return;
  film.dataset.state = state;
  const focused = film.contains(document.activeElement) ? document.activeElement.dataset.picture : null;
  film.replaceChildren(
    ...facts.map(({ picture, failed }) =>
      element("li", {}, element(
        "button",
        {
          type: "button", class: "tile", title: picture.name, "data-picture": picture.id,
          "aria-current": picture === current ? "true" : null,
          "aria-label": failed ? `${picture.name}, failed` : picture.name, onclick: () => choose(picture),
        },
        picture.image
          ? element("img", { src: picture.url, alt: "" })
          : element("span", { class: "no-preview", "aria-hidden": "true" }, failed ? "!" : "…"),
      )),
    ),
  );
  if (focused !== null) [...film.querySelectorAll("button")].find((b) => b.dataset.picture === focused)?.focus();
}

/**
 * Toggles by class, the most frequent first.
 * @param {Item[]} items that pass the threshold, or would if it were lower
 * @param {Set<string>} hidden keys of classes
 * @param {(item: Item) => boolean} passing
 */
export function showClasses(items, hidden, passing, toggle) {
  const classes = new Map();
  for (const item of items) {
    const entry = classes.get(item.key) ?? { ...item, all: 0, passing: 0 };
    entry.all += 1;
    entry.passing += passing(item) ? 1 : 0;
    classes.set(item.key, entry);
  }
  const sorted = [...classes.values()].sort((a, b) => b.all - a.all || a.name.localeCompare(b.name));
  const list = byId("classes");
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  list.replaceChildren(
    ...sorted.map(({ key, name, color, passing: count }) =>
      element("li", {}, element(
        "button",
        {
          type: "button", class: "chip", "aria-pressed": String(!hidden.has(key)), "data-key": key,
          "aria-label": `${name}, ${count}`, onclick: () => toggle(key),
        },
        swatch(color), element("span", { class: "name" }, name), element("span", { class: "count" }, String(count)),
      )),
    ),
  );
  // The button that was pressed is a new one now.
  if (focused !== null) [...list.querySelectorAll("button")].find((b) => b.dataset.key === focused)?.focus();
  byId("all-classes").hidden = hidden.size === 0;
  byId("classes-card").hidden = sorted.length === 0;
}

/**
 * The table of instances: all that the canvas shows, in words.
 * @param {{item: Item, side: string, mark: ?string}[]} rows
 * @param {boolean} compared
 */
export function showRows(rows, compared, light) {
  const body = byId("rows");
  const focused = body.contains(document.activeElement) ? document.activeElement.dataset.row : null;
  byId("table").classList.toggle("compared", compared);
  byId("side-column").hidden = !compared;
  byId("note-column").hidden = !compared;
  body.replaceChildren(
    ...rows.slice(0, MOST_ROWS).map(({ item, side, mark }) => {
      const id = `${side}-${item.index}`;
      const [x1, y1, x2, y2] = item.box ? item.box.map(Math.round) : [];
      const cells = [
        element("th", { scope: "row" }, element(
          "button",
          { type: "button", class: "row", "data-row": id, onfocus: () => light(item), onblur: () => light(null) },
          swatch(item.color), element("span", { class: "name" }, item.name),
        )),
        element("td", { class: "number" }, item.score === null ? "–" : item.score.toFixed(3)),
        element(
          "td", { class: "number place" },
          item.box ? `${x1}, ${y1} – ${x2}, ${y2}` : `${item.area.toLocaleString("en")} px`,
        ),
      ];
      if (compared) cells.push(element("td", {}, side), element("td", { class: "mark" }, mark ?? "same"));
      return element(
        "tr",
        { class: mark ? "different" : null, onpointerenter: () => light(item), onpointerleave: () => light(null) },
        ...cells,
      );
    }),
  );
  if (focused !== null) [...body.querySelectorAll("button")].find((b) => b.dataset.row === focused)?.focus();
  const left = rows.length - MOST_ROWS;
  setText(byId("rows-left"), left > 0 ? `and ${left} more, in the JSON` : "");
  byId("no-rows").hidden = rows.length > 0;
  byId("table").hidden = rows.length === 0;
}

const STAGES = ["decode", "queue", "inference", "encode"];

/** Where the time went: the stages as shares of the whole. */
export function showTiming(answer, seconds) {
  const card = byId("timing-card");
  card.hidden = !answer;
  if (!answer) return;
  const timing = answer.timing_ms;
  const known = STAGES.reduce((sum, stage) => sum + timing[stage], 0);
  const whole = seconds * 1000;
  const parts = [...STAGES.map((stage) => [stage, timing[stage]])];
  parts.push(["server, rest", Math.max(0, timing.total - known)], ["network", Math.max(0, whole - timing.total)]);
  const sum = parts.reduce((total, [, ms]) => total + ms, 0) || 1;
  byId("timing-bar").replaceChildren(
    ...parts.map(([, ms], at) => {
      const part = element("span", { class: `stage-${at}` });
      part.style.flexGrow = String(ms / sum);
      return part;
    }),
  );
  byId("timing-list").replaceChildren(
    ...parts.map(([stage, ms], at) =>
      element(
        "div", {},
        element("dt", {}, element("span", { class: `swatch stage-${at}`, "aria-hidden": "true" }), stage),
        element("dd", {}, milliseconds(ms)),
      ),
    ),
  );
  setText(byId("timing-total"), milliseconds(whole));
}

/** `"3.4 ms"`, `"1.20 s"` */
export const milliseconds = (ms) =>
  ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
