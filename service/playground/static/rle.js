// Masks in COCO's compressed run-length encoding, and their outlines.

/**
 * Lengths of the runs of a compressed mask, the first of them of zeros.
 *
 * Each character holds five bits, the lowest first, and a sixth that says that more follow; the numbers
 * are signed, and from the third run on they are differences from the run two before.
 * @param {string} counts
 * @returns {number[]}
 */
export function decodeCounts(counts) {
  const runs = [];
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let shift = 0;
    let bits;
    do {
      if (at >= counts.length || shift > 30) throw new RangeError("The mask is cut off or no COCO RLE.");
      bits = counts.charCodeAt(at++) - 48;
      if (bits < 0 || bits > 63) throw new RangeError("The mask is no COCO RLE.");
      value += (bits & 31) * 2 ** shift;
      shift += 5;
    } while (bits & 32);
    if (bits & 16) value -= 2 ** shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    if (value < 0) throw new RangeError("The mask has a run of negative length.");
    runs.push(value);
  }
  return runs;
}

/**
 * The pixels of a mask, cropped to where it is set.
 * @param {{size: [number, number], counts: string}} rle
 * @returns {{left: number, top: number, width: number, height: number, bits: Uint8Array, area: number}}
 *   bits are rows of 0 and 1
 */
export function decodeMask({ size: [height, width], counts }) {
  const runs = decodeCounts(counts);
  if (runs.reduce((sum, run) => sum + run, 0) !== height * width) {
    throw new RangeError("The mask does not fill its picture.");
  }
  let [left, top, right, bottom, area] = [width, height, 0, 0, 0];
  eachRun(runs, (from, to) => {
    const [first, last] = [Math.floor(from / height), Math.floor((to - 1) / height)];
    left = Math.min(left, first);
    right = Math.max(right, last + 1);
    top = Math.min(top, first === last ? from % height : 0);
    bottom = Math.max(bottom, first === last ? ((to - 1) % height) + 1 : height);
    area += to - from;
  });
  if (area === 0) return { left: 0, top: 0, width: 0, height: 0, bits: new Uint8Array(0), area };
  const crop = { left, top, width: right - left, height: bottom - top };
  const bits = new Uint8Array(crop.width * crop.height);
  eachRun(runs, (from, to) => {
    // Down one column, then the next.
    for (let at = from; at < to; at++) {
      const x = Math.floor(at / height);
      bits[(at - x * height - top) * crop.width + x - left] = 1;
    }
  });
  return { ...crop, bits, area };
}

function eachRun(runs, visit) {
  let at = 0;
  runs.forEach((run, index) => {
    if (index % 2 === 1 && run > 0) visit(at, at + run);
    at += run;
  });
}

/**
 * The outlines of a crop, holes included, in pixels of the picture.
 *
 * Follows the edges between set and unset pixels with the set ones on the right, through the middle of
 * each edge: straight sides stay, and steps become slopes.
 * @returns {number[][]} closed lines x, y, x, y, ...; fill them by the even-odd rule
 */
export function outlines({ left, top, width, height, bits }) {
  const set = (x, y) => x >= 0 && y >= 0 && x < width && y < height && bits[y * width + x] === 1;
  const seen = new Uint8Array(width * (height + 1)); // upper edges of set pixels, walked eastwards
  const lines = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (seen[y * width + x] || !set(x, y) || set(x, y - 1)) continue;
      lines.push(walk(x, y, set, (vx, vy) => (seen[vy * width + vx] = 1), left, top));
    }
  }
  return lines;
}

// East, south, west, north: a step, and the pixels ahead of it on the left and on the right.
const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]];
const AHEAD_LEFT = [[0, -1], [0, 0], [-1, 0], [-1, -1]];
const AHEAD_RIGHT = [[0, 0], [-1, 0], [-1, -1], [0, -1]];

function walk(startX, startY, set, mark, left, top) {
  const line = [];
  let [x, y, heading] = [startX, startY, 0];
  let lastX = NaN;
  let lastY = NaN;
  do {
    if (heading === 0) mark(x, y);
    const [dx, dy] = STEPS[heading];
    const middleX = left + x + dx / 2;
    const middleY = top + y + dy / 2;
    // Of the points on one straight line only the ends are kept.
    const count = line.length;
    if (
      count >= 4 &&
      (lastX - line[count - 4]) * (middleY - lastY) === (lastY - line[count - 3]) * (middleX - lastX)
    ) {
      line[count - 2] = middleX;
      line[count - 1] = middleY;
    } else {
      line.push(middleX, middleY);
    }
    [lastX, lastY] = [middleX, middleY];
    x += dx;
    y += dy;
    const [lx, ly] = AHEAD_LEFT[heading];
    const [rx, ry] = AHEAD_RIGHT[heading];
    if (!set(x + rx, y + ry)) heading = (heading + 1) % 4;
    else if (set(x + lx, y + ly)) heading = (heading + 3) % 4;
  } while (x !== startX || y !== startY || heading !== 0);
  return line;
}
