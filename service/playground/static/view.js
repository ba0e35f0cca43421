// What is on the screen, from what is chosen and what has been answered; touches no element.

import { colorsOf } from "./colors.js";
import { difference, itemsOf, layersOf, pairs, passes } from "./scene.js";
import { curl, python } from "./snippets.js";

/**
 * @typedef {Object} Side a version's answer for the chosen picture
 * @property {string} version
 * @property {Object} result of the session
 * @property {Item[]} items all of the chosen layer
 * @property {Item[]} visible those that pass threshold and classes
 * @property {Map<Item, string>} differences from the other side, in words
 */

/**
 * The sides: the chosen version, and the one to compare with.
 * @returns {{sides: Side[], layers: string[], layer: string, matched: Map<Item, Item>}}
 */
export function viewOf(chosen, session) {
  const { model, version, compare, tta, picture, threshold, hidden } = chosen;
  if (!model || !picture) return { sides: [], layers: [], layer: "", matched: new Map() };
  const sides = (compare ? [version, compare] : [version]).map((label) => {
    const wanted = { model: model.name, version: label, tta, least: model.thresholds.score };
    const result = session.result(picture, wanted);
    return { version: label, result, items: [], visible: [], differences: new Map() };
  });
  const done = sides.filter(({ result }) => result.state === "done");
  const layers = done.length ? layersOf(done[0].result.answer.predictions[0]) : [];
  const layer = layers.includes(chosen.layer) ? chosen.layer : (layers[0] ?? "");
  for (const side of done) {
    const prediction = side.result.answer.predictions[0];
    const kept = side.result.items; // decoded once
    if (!prediction[layer]) continue;
    if (!kept.has(layer)) kept.set(layer, itemsOf(prediction, layer, colorsOf(model)));
    side.items = kept.get(layer);
    side.visible = side.items.filter((item) => passes(item, threshold) && !hidden.has(item.key));
  }
  if (sides.length < 2 || done.length < 2) return { sides, layers, layer, matched: new Map() };
  const matched = pairs(sides[0].items, sides[1].items);
  sides.forEach((side, at) => {
    for (const item of side.visible) {
      const mark = difference(item, matched.get(item), threshold, side.version, sides[1 - at].version);
      if (mark) side.differences.set(item, mark);
    }
  });
  return { sides, layers, layer, matched };
}

/** Rows of the table, best first; in a comparison what differs comes before. */
export function rowsOf({ sides }) {
  const rows = sides.flatMap(({ visible, version, differences }) =>
    visible.map((item) => ({ item, side: version, mark: differences.get(item) })),
  );
  if (sides.length === 2) {
    rows.sort((a, b) => Boolean(b.mark) - Boolean(a.mark) || (b.item.score ?? 0) - (a.item.score ?? 0));
  }
  return rows;
}

/** One scene for each side, as the stage and the annotated picture show it. */
export function scenesOf({ sides, matched }, { picture, show }, lit) {
  const both = lit ? [lit, matched.get(lit)] : [];
  const marking = sides.some(({ differences }) => differences.size > 0);
  return sides.map(({ version, result, visible, differences }) => {
    const told = result.answer?.predictions[0].image ?? picture.image;
    const names = visible.slice(0, 20).map(({ name }) => name).join(", ");
    const state = { waiting: "waiting …", failed: "no answer", done: `${visible.length} found` }[result.state];
    const compared = sides.length === 2;
    return {
      picture: picture.image,
      width: told?.width ?? null,
      height: told?.height ?? null,
      items: visible,
      lit: new Set(visible.filter((item) => both.includes(item))),
      differences,
      marking,
      show,
      skeleton: result.answer?.model.keypoint_skeleton ?? [],
      title: compared ? `Version ${version}` : picture.name,
      note: compared ? state : told ? `${told.width} × ${told.height}` : "",
      waiting: result.state === "waiting",
      failed: result.state === "failed",
      description: `${picture.name}, version ${version}: ${names || state}. The table has the details.`,
    };
  });
}

const instances = (count) => `${count} ${count === 1 ? "instance" : "instances"}`;

/** The result in one sentence, spoken by screen readers; empty while there is nothing to say. */
export function summaryOf({ sides }) {
  if (sides.some(({ result }) => result.state === "waiting")) return "Waiting for the answer …";
  if (sides.length === 0 || sides.some(({ result }) => result.state === "failed")) return "";
  if (sides.length === 1) {
    const [{ visible, items }] = sides;
    const all = instances(items.length);
    return visible.length === items.length ? all : `${visible.length} of ${all}`;
  }
  const different = sides.reduce((sum, { differences }) => sum + differences.size, 0);
  return different === 0 ? "No difference" : different === 1 ? "1 difference" : `${different} differences`;
}

/** Why the table is empty. */
export function emptiness({ sides }) {
  if (sides.length === 0) return "What the model finds is listed here.";
  if (sides.some(({ result }) => result.state === "waiting")) return "Waiting for the answer …";
  if (sides.some(({ result }) => result.state === "failed")) return "There is no answer for this picture.";
  return "Nothing at this threshold, of the classes that are shown.";
}

/** The request on the screen, to copy; with the threshold of the slider. */
export function snippetOf({ model, version, threshold, tta, picture, language }, models) {
  const query = {
    model: models.length > 1 ? model.name : null,
    version: version === model.version ? null : version,
    score_threshold: Number(threshold.toFixed(2)),
    tta: tta && model.tta ? "full" : null,
  };
  return (language === "curl" ? curl : python)(picture.name, query);
}
