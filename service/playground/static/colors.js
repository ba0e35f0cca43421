// The colour of a class: the server's, and for a class that only another version has one like it.

const GOLDEN_ANGLE = 137.508; // degrees; its steps always fall into the widest gap of the circle

/**
 * @param {Object} model of GET /models
 * @returns {(id: number, stuff: boolean) => string} `#rrggbb`
 */
export function colorsOf(model) {
  const known = (classes) => new Map(classes.map(({ id, color }) => [id, color]));
  const [things, stuff] = [known(model.classes), known(model.stuff_classes)];
  return (id, isStuff) => (isStuff ? stuff : things).get(id) ?? fromHue((240 + id * GOLDEN_ANGLE) % 360);
}

function fromHue(hue) {
  const [saturation, lightness] = [0.65, 0.62];
  const channel = (n) => {
    const k = (n + hue / 30) % 12;
    const value = lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value).toString(16).padStart(2, "0");
  };
  return `#${channel(0)}${channel(8)}${channel(4)}`;
}
