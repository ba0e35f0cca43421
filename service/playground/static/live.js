// The live panel: /metrics every two seconds, while the page is seen.

import { getMetrics } from "./api.js";
import { byId, setText } from "./dom.js";
import { between, parseMetrics, versionsIn } from "./metrics.js";
import { milliseconds } from "./results.js";

const EVERY_MS = 2000;
const KEPT = 60; // two minutes

/** @param {() => void} versionsChanged called when other versions answer than before */
export function startLive(versionsChanged) {
  const history = { throughput: [], queue: [], batch: [], latency: [] };
  let before = null;
  let paused = false;
  let timer = 0;
  let reading = null;

  const stop = () => {
    clearTimeout(timer);
    reading?.abort();
    before = null; // a rate over the pause would be none of now
  };
  const next = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(read, EVERY_MS);
  };

  async function read() {
    reading = new AbortController();
    try {
      const samples = parseMetrics(await getMetrics(reading.signal));
      const at = performance.now();
      if (before) {
        show(between(before.samples, samples, (at - before.at) / 1000));
        if (versionsIn(before.samples) !== versionsIn(samples)) versionsChanged();
      } else if (byId("live").dataset.state === "away") {
        versionsChanged(); // the server is back, perhaps with others
      }
      before = { samples, at };
      state("live");
    } catch (error) {
      if (error.name === "AbortError") return;
      before = null;
      state("away");
    }
    next();
  }

  function show(figures) {
    const { throughput, queue, capacity, batch, median, tail } = figures;
    card("throughput", throughput, throughput.toFixed(throughput < 10 ? 1 : 0), "images/s");
    card("queue", queue, String(queue), `of ${capacity}`);
    card("batch", batch, batch === null ? "–" : batch.toFixed(1), "images, mean");
    card(
      "latency", median, median === null ? "–" : milliseconds(median * 1000),
      tail === null ? "median" : `median, p95 ${milliseconds(tail * 1000)}`,
    );
  }

  function card(name, value, text, unit) {
    const values = history[name];
    values.push(value);
    if (values.length > KEPT) values.shift();
    setText(byId(`live-${name}`), text);
    setText(byId(`live-${name}-unit`), unit);
    const top = Math.max(...values.map((v) => v ?? 0)) || 1;
    const points = values.map((v, at) => {
      const x = 120 - (values.length - 1 - at) * (120 / (KEPT - 1));
      return `${x.toFixed(1)},${(29 - (26 * (v ?? 0)) / top).toFixed(1)}`;
    });
    const [line, area] = byId(`live-${name}-line`).children;
    line.setAttribute("points", points.join(" "));
    const from = 120 - (values.length - 1) * (120 / (KEPT - 1));
    area.setAttribute("points", `${from.toFixed(1)},30 ${points.join(" ")} 120,30`);
  }

  function state(name) {
    byId("live").dataset.state = name;
    setText(byId("live-state"), { live: "Every 2 s", paused: "Paused", away: "The server cannot be reached" }[name]);
  }

  byId("live-pause").addEventListener("click", () => {
    paused = !paused;
    setText(byId("live-pause"), paused ? "Resume" : "Pause");
    stop();
    if (paused) state("paused");
    else read();
  });
  document.addEventListener("visibilitychange", () => {
    stop();
    if (!document.hidden && !paused) read();
  });
  read();
}
