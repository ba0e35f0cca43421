// From an answer to what is drawn and listed: items of one kind, whatever the architecture gives.

import { decodeMask, outlines } from "./rle.js";

/**
 * @typedef {Object} Item
 * @property {number} index its place in the answer
 * @property {string} key of its class; things and stuff may share a name
 * @property {string} name
 * @property {string} color
 * @property {?number} score
 * @property {?number[]} box XYXY in pixels of the picture, around a rotated one
 * @property {?number[][]} corners of a rotated box
 * @property {?Path2D} path of the mask, in pixels of the picture
 * @property {?number[][]} keypoints x, y, score
 * @property {number} area of the mask or the box, in pixels
 */

export const LAYERS = { instances: "Instances", panoptic_seg: "Panoptic", sem_seg: "Semantic", proposals: "Proposals" };

/** What of a prediction can be shown, the most telling first. */
export const layersOf = (prediction) => Object.keys(LAYERS).filter((layer) => prediction[layer]);

/** The items of one layer of a prediction. `colors` names the colour of a class id. */
export function itemsOf(prediction, layer, colors) {
  const content = prediction[layer];
  if (layer === "instances") return instances(content, colors);
  if (layer === "proposals") return proposals(content);
  const segments = content.segments ?? content.segments_info;
  return segments.filter((segment) => segment.area > 0).map((segment, index) => {
    const thing = segment.isthing === true;
    return {
      index,
      key: `${thing ? "thing" : "stuff"}-${segment.category_id}`,
      name: segment.category_name,
      color: colors(segment.category_id, !thing),
      score: segment.score ?? null,
      box: null,
      corners: null,
      keypoints: null,
      ...shape(segment.segmentation, segment.area),
    };
  });
}

function instances(content, colors) {
  return content.pred_boxes.map((given, index) => {
    const corners = content.polygons?.[index] ?? null;
    const box = corners ? around(corners) : given;
    return {
      index,
      key: `thing-${content.pred_classes[index]}`,
      name: content.class_names[index],
      color: colors(content.pred_classes[index], false),
      score: content.scores[index],
      box,
      corners,
      keypoints: content.pred_keypoints?.[index] ?? null,
      ...shape(content.masks?.[index], areaOf(box)),
    };
  });
}

function proposals(content) {
  const rotated = content.box_mode === "XYWHA_ABS";
  return content.proposal_boxes.map((given, index) => {
    const corners = rotated ? rotatedCorners(given) : null;
    const box = corners ? around(corners) : given;
    return {
      index,
      key: "proposal",
      name: "proposal",
      color: "#7a80f0",
      score: 1 / (1 + Math.exp(-content.objectness_logits[index])),
      box,
      corners,
      keypoints: null,
      path: null,
      area: areaOf(box),
    };
  });
}

function shape(rle, area) {
  if (!rle) return { path: null, area };
  const mask = decodeMask(rle);
  const path = new Path2D();
  for (const line of outlines(mask)) {
    path.moveTo(line[0], line[1]);
    for (let at = 2; at < line.length; at += 2) path.lineTo(line[at], line[at + 1]);
    path.closePath();
  }
  return { path, area: mask.area };
}

const areaOf = ([x1, y1, x2, y2]) => Math.max(0, x2 - x1) * Math.max(0, y2 - y1);

function around(corners) {
  const xs = corners.map(([x]) => x);
  const ys = corners.map(([, y]) => y);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

function rotatedCorners([x, y, width, height, degrees]) {
  const angle = (degrees * Math.PI) / 180; // counter-clockwise, while y points down
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([sx, sy]) => {
    const [dx, dy] = [(sx * width) / 2, (sy * height) / 2];
    return [x + dx * cos + dy * sin, y - dx * sin + dy * cos];
  });
}

/** Whether an item passes the threshold; what has no score always does. */
export const passes = (item, threshold) => item.score === null || item.score >= threshold;

/** Intersection over union of two boxes. */
export function iou(first, second) {
  const width = Math.min(first[2], second[2]) - Math.max(first[0], second[0]);
  const height = Math.min(first[3], second[3]) - Math.max(first[1], second[1]);
  const common = Math.max(0, width) * Math.max(0, height);
  return common === 0 ? 0 : common / (areaOf(first) + areaOf(second) - common);
}

/**
 * Pairs of two answers: the best overlaps first, of the same class before others.
 * @returns {Map<Item, Item>} both ways
 */
export function pairs(first, second, least = 0.5) {
  const found = new Map();
  for (const sameClass of [true, false]) {
    const candidates = [];
    for (const a of first) {
      for (const b of second) {
        if (!a.box || !b.box || (a.key === b.key) !== sameClass) continue;
        const overlap = iou(a.box, b.box);
        if (overlap >= least) candidates.push({ a, b, overlap });
      }
    }
    candidates.sort((one, other) => other.overlap - one.overlap);
    for (const { a, b } of candidates) {
      if (found.has(a) || found.has(b)) continue;
      found.set(a, b).set(b, a);
    }
  }
  return found;
}

/**
 * How an item differs from the other version's answer, in words; null if it does not.
 * @param {?Item} partner its counterpart
 * @param {number} threshold below which the counterpart is not shown
 * @param {string} version of the item
 * @param {string} other version, of the counterpart
 */
export function difference(item, partner, threshold, version, other) {
  if (item.box === null) return null; // segments cover the picture and have no counterparts
  if (!partner) return `only in version ${version}`;
  if (item.key !== partner.key) return `${partner.name} in version ${other}`;
  if (!passes(partner, threshold)) return `${partner.score.toFixed(2)} in version ${other}`;
  return null;
}
