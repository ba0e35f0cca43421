// Draws a picture and its items on a canvas: masks, boxes, skeletons, names.

const MASK_OPACITY = 0.42;
const FADED = 0.22;
const KEYPOINT_SCORE = 0.05; // below it Detectron2's visualiser draws none either
const FONT = '"Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif';

/**
 * @param {CanvasRenderingContext2D} context its transform maps a unit to a pixel as the user sees it
 * @param {Object} scene
 * @param {?CanvasImageSource} scene.picture null if the browser cannot show it
 * @param {number} scene.width of the picture, in its pixels
 * @param {number} scene.height
 * @param {number} scene.scale units for a pixel of the picture
 * @param {Item[]} scene.items those to draw
 * @param {Set<Item>} scene.lit stand out; the others fade if there are any
 * @param {Map<Item, string>} scene.differences marked ones, with their mark
 * @param {boolean} scene.marking whether there are such, here or on the other side: what is the same steps back
 * @param {{boxes: boolean, masks: boolean, names: boolean, keypoints: boolean}} scene.show
 * @param {number[][]} scene.skeleton pairs of keypoints
 */
export function drawScene(context, scene) {
  const { picture, width, height, scale, items, show } = scene;
  const [w, h] = [width * scale, height * scale];
  context.save();
  context.beginPath();
  context.rect(0, 0, w, h);
  context.clip();
  context.imageSmoothingQuality = "high";
  if (picture) context.drawImage(picture, 0, 0, w, h);
  else {
    context.fillStyle = "#8a8f9c";
    context.fillRect(0, 0, w, h);
  }
  const opacity = (item) => {
    if (scene.lit.size > 0) return scene.lit.has(item) ? 1 : FADED;
    return scene.marking && !scene.differences.has(item) ? 0.45 : 1;
  };
  // Large ones first, so that small ones stay visible; what stands out comes last.
  const order = [...items].sort(
    (a, b) => scene.lit.has(a) - scene.lit.has(b) || b.area - a.area || a.index - b.index,
  );
  for (const item of order) {
    context.globalAlpha = opacity(item);
    if (show.masks && item.path) drawMask(context, item, scale, scene.lit.has(item));
  }
  for (const item of order) {
    context.globalAlpha = opacity(item);
    if (show.boxes) drawBox(context, item, scale, scene.differences.has(item));
    if (show.keypoints && item.keypoints) drawKeypoints(context, item, scale, scene.skeleton);
  }
  if (show.names) drawNames(context, scene, order, opacity, w, h);
  context.restore();
}

function drawMask(context, item, scale, lit) {
  const before = context.globalAlpha;
  context.save();
  context.scale(scale, scale);
  context.fillStyle = item.color;
  context.globalAlpha = before * (lit ? MASK_OPACITY + 0.2 : MASK_OPACITY);
  context.fill(item.path, "evenodd");
  context.globalAlpha = before;
  context.strokeStyle = item.color;
  context.lineJoin = "round";
  context.lineWidth = (lit ? 2.5 : 1.75) / scale;
  context.stroke(item.path);
  context.restore();
}

function boxPath(context, item, scale) {
  context.beginPath();
  if (item.corners) {
    item.corners.forEach(([x, y], at) => context[at ? "lineTo" : "moveTo"](x * scale, y * scale));
    context.closePath();
  } else {
    const [x1, y1, x2, y2] = item.box.map((value) => value * scale);
    context.rect(x1, y1, x2 - x1, y2 - y1);
  }
}

function drawBox(context, item, scale, marked) {
  if (!item.box) return;
  boxPath(context, item, scale);
  if (marked) {
    // White dashes on black: told from every colour and on every picture.
    context.lineWidth = 5;
    context.strokeStyle = "#000";
    context.stroke();
    context.lineWidth = 2.5;
    context.setLineDash([7, 5]);
    context.strokeStyle = "#fff";
    context.stroke();
    context.setLineDash([]);
    return;
  }
  context.lineWidth = 1.75;
  context.strokeStyle = item.color;
  context.stroke();
}

function drawKeypoints(context, item, scale, skeleton) {
  const points = item.keypoints.map(([x, y, score]) => ({ x: x * scale, y: y * scale, shown: score >= KEYPOINT_SCORE }));
  context.lineCap = "round";
  for (const [width, color] of [[5, "rgb(0 0 0 / 55%)"], [2.5, item.color]]) {
    context.lineWidth = width;
    context.strokeStyle = color;
    for (const [from, to] of skeleton) {
      const [a, b] = [points[from], points[to]];
      if (!a?.shown || !b?.shown) continue;
      context.beginPath();
      context.moveTo(a.x, a.y);
      context.lineTo(b.x, b.y);
      context.stroke();
    }
  }
  for (const { x, y, shown } of points) {
    if (!shown) continue;
    context.beginPath();
    context.arc(x, y, 3.5, 0, 2 * Math.PI);
    context.fillStyle = "#fff";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = item.color;
    context.stroke();
  }
}

/** `"disc 98%"` */
export const label = (item) =>
  item.score === null ? item.name : `${item.name} ${Math.round(item.score * 100)}%`;

function drawNames(context, scene, order, opacity, w, h) {
  const size = w < 480 ? 10.5 : 12;
  context.font = `600 ${size}px ${FONT}`;
  context.textBaseline = "middle";
  const taken = [];
  // The smallest have the fewest places for a name, so they choose first; what stands out before all.
  for (const item of [...order].reverse()) {
    const anchor = item.box?.map((value) => value * scene.scale);
    const mark = scene.differences.get(item);
    // Of a comparison the names of what is the same would hide what is not.
    if (!anchor || (scene.marking && !mark && !scene.lit.has(item))) continue;
    const text = shortened(context, mark ? `${label(item)} · ${mark}` : label(item), w - 12);
    const [wide, tall] = [Math.ceil(context.measureText(text).width) + 12, size + 8];
    const [x, y] = freeSpot(anchor, wide, tall, w, h, taken);
    taken.push([x, y, x + wide, y + tall]);
    context.globalAlpha = opacity(item) < 0.3 ? 0 : 1;
    context.fillStyle = item.color;
    context.beginPath();
    context.roundRect(x, y, wide, tall, 4);
    context.fill();
    context.fillStyle = textColor(item.color);
    context.fillText(text, x + 6, y + tall / 2 + 0.5);
  }
}

function shortened(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let kept = text;
  while (kept && context.measureText(`${kept}…`).width > room) kept = kept.slice(0, -1);
  return `${kept}…`;
}

function freeSpot([x1, y1, x2, y2], wide, tall, w, h, taken) {
  const spots = [[x1, y1 - tall - 2], [x1, y2 + 2], [x2 - wide, y1 - tall - 2], [x1, y1 + 2], [x2 - wide, y2 - tall - 2]];
  let best = null;
  for (const [left, top] of spots) {
    if (top < 0 || top > h - tall) continue;
    const x = Math.max(0, Math.min(left, w - wide));
    const hidden = taken.reduce((sum, [a, b, c, d]) => {
      const across = Math.min(x + wide, c) - Math.max(x, a);
      const down = Math.min(top + tall, d) - Math.max(top, b);
      return sum + Math.max(0, across) * Math.max(0, down);
    }, 0);
    if (best === null || hidden < best.hidden) best = { x, y: top, hidden };
  }
  return best ? [best.x, best.y] : [Math.max(0, Math.min(x1, w - wide)), Math.max(0, Math.min(y1, h - tall))];
}

/** Black or white, whichever reads better on `#rrggbb` (WCAG's relative luminance). */
export function textColor(color) {
  const channels = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255);
  const [red, green, blue] = channels.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

/** The smallest item at a point of the picture, or null. */
export function itemAt(context, items, x, y, slack) {
  let found = null;
  for (const item of items) {
    let inside;
    if (item.box) {
      const [x1, y1, x2, y2] = item.box;
      inside = x >= x1 - slack && x <= x2 + slack && y >= y1 - slack && y <= y2 + slack;
    } else {
      inside = item.path !== null && context.isPointInPath(item.path, x, y, "evenodd");
    }
    if (inside && (found === null || item.area < found.area)) found = item;
  }
  return found;
}
