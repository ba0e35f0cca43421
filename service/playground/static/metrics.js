// Prometheus' text format, and what two readings of it say about the time between them.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /(\w+)="((?:\\.|[^"\\])*)"/g;

/**
 * @param {string} text
 * @returns {Map<string, {labels: Object<string, string>, value: number}[]>} samples by name
 */
export function parseMetrics(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, key, value] of (match[2] ?? "").matchAll(LABEL)) {
      labels[key] = value.replace(/\\(.)/g, (_, char) => (char === "n" ? "\n" : char));
    }
    if (!samples.has(match[1])) samples.set(match[1], []);
    samples.get(match[1]).push({ labels, value: Number(match[3].replace("Inf", "Infinity")) });
  }
  return samples;
}

const sum = (samples, name, wanted = {}) =>
  (samples.get(name) ?? [])
    .filter(({ labels }) => Object.entries(wanted).every(([key, value]) => labels[key] === value))
    .reduce((total, { value }) => total + value, 0);

/**
 * What happened between two readings. Figures without any request are null, the queue is as it is now.
 * @param {Map} before
 * @param {Map} now
 * @param {number} seconds between them
 */
export function between(before, now, seconds) {
  const grown = (name, wanted) => Math.max(0, sum(now, name, wanted) - sum(before, name, wanted));
  const batches = grown("detserve_batch_size_count");
  const predict = { route: "/predict" };
  return {
    throughput: grown("detserve_predictions_total", { outcome: "ok" }) / seconds,
    queue: sum(now, "detserve_queue_depth"),
    capacity: sum(now, "detserve_queue_capacity"),
    batch: batches ? grown("detserve_batch_size_sum") / batches : null,
    median: quantile(0.5, before, now, "detserve_http_request_duration_seconds_bucket", predict),
    tail: quantile(0.95, before, now, "detserve_http_request_duration_seconds_bucket", predict),
  };
}

/** A quantile of what a histogram counted between two readings, linear within a bucket; null: nothing. */
export function quantile(share, before, now, name, wanted) {
  const edges = [...new Set((now.get(name) ?? []).map(({ labels }) => labels.le))]
    .map((le) => ({ le, edge: Number(le.replace("Inf", "Infinity")) }))
    .sort((a, b) => a.edge - b.edge);
  const counts = edges.map(({ le }) => sum(now, name, { ...wanted, le }) - sum(before, name, { ...wanted, le }));
  const all = counts.at(-1) ?? 0;
  if (!(all > 0)) return null;
  const rank = share * all;
  const at = counts.findIndex((count) => count >= rank);
  const low = at > 0 ? edges[at - 1].edge : 0;
  const high = edges[at].edge;
  if (high === Infinity) return low;
  const below = at > 0 ? counts[at - 1] : 0;
  return low + ((high - low) * (rank - below)) / (counts[at] - below || 1);
}

/** Which versions answer, as one string: when it changes, the menus are out of date. */
export const versionsIn = (samples) =>
  ["detserve_model_ready", "detserve_model_current"]
    .flatMap((name) => (samples.get(name) ?? []).map(({ labels, value }) => `${name} ${labels.model} ${labels.version} ${value}`))
    .sort()
    .join("\n");
