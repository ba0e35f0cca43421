// The picture or the two pictures: canvases that follow their room, the pointer, and their captions.

import { byId, element, oncePerFrame, setText } from "./dom.js";
import { drawScene, itemAt, label } from "./draw.js";

const LEAST_HEIGHT = 260;

export class Stage {
  #panes = [];
  #scratch = document.createElement("canvas").getContext("2d");
  #light;
  #tip = byId("tip");
  draw = oncePerFrame(() => this.#panes.forEach((pane) => this.#drawPane(pane)));

  /** @param {(item: ?Item) => void} light called when the pointer is over another item */
  constructor(light) {
    this.#light = light;
    new ResizeObserver(this.draw).observe(byId("panes"));
    addEventListener("resize", this.draw);
  }

  /**
   * Show one scene, or two side by side.
   * @param {Object[]} scenes as of drawScene, with `title`, `note`, `waiting` and `failed` for the caption
   */
  show(scenes) {
    const panes = byId("panes");
    while (this.#panes.length > scenes.length) this.#panes.pop().figure.remove();
    while (this.#panes.length < scenes.length) {
      const pane = this.#newPane();
      this.#panes.push(pane);
      panes.append(pane.figure);
    }
    panes.classList.toggle("two", scenes.length === 2);
    if (scenes.length === 0) this.#tip.hidden = true;
    scenes.forEach((scene, at) => {
      const pane = this.#panes[at];
      pane.scene = scene;
      pane.figure.setAttribute("aria-busy", scene.waiting);
      pane.figure.classList.toggle("failed", scene.failed);
      pane.canvas.hidden = !scene.width;
      pane.bare.hidden = Boolean(scene.width) || scene.waiting;
      setText(pane.title, scene.title);
      setText(pane.note, scene.note);
      pane.canvas.setAttribute("aria-label", scene.description);
    });
    this.draw();
  }

  #newPane() {
    const canvas = element("canvas", { role: "img" });
    const title = element("strong");
    const note = element("span");
    const bare = element("p", { class: "faint", hidden: true }, "There is nothing to show of this file.");
    const figure = element(
      "figure", { class: "pane" },
      element("figcaption", {}, title, note),
      element("div", { class: "mat" }, canvas, bare, element("div", { class: "spinner", "aria-hidden": "true" })),
    );
    const pane = { figure, canvas, bare, title, note, scene: null, scale: 1 };
    canvas.addEventListener("pointermove", (event) => this.#pointAt(pane, event));
    canvas.addEventListener("pointerdown", (event) => this.#pointAt(pane, event));
    canvas.addEventListener("pointerleave", () => this.#leave());
    return pane;
  }

  #drawPane(pane) {
    const { canvas, scene } = pane;
    if (!scene?.width) return; // neither the browser nor the server knows the picture
    const room = canvas.parentElement.clientWidth;
    const tallest = Math.max(LEAST_HEIGHT, innerHeight * 0.66);
    pane.scale = Math.min(room / scene.width, tallest / scene.height);
    const [width, height] = [scene.width * pane.scale, scene.height * pane.scale];
    const ratio = devicePixelRatio || 1;
    const [pixelsWide, pixelsHigh] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== pixelsWide) canvas.width = pixelsWide;
    if (canvas.height !== pixelsHigh) canvas.height = pixelsHigh;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    drawScene(context, { ...scene, scale: pane.scale });
  }

  #pointAt(pane, event) {
    if (!pane.scene) return;
    const bounds = pane.canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - bounds.left) / pane.scale, (event.clientY - bounds.top) / pane.scale];
    const item = itemAt(this.#scratch, pane.scene.items, x, y, 3 / pane.scale);
    this.#light(item);
    this.#tip.hidden = item === null;
    if (item === null) return;
    const mark = pane.scene.differences.get(item);
    setText(this.#tip, mark ? `${label(item)} · ${mark}` : label(item));
    const [left, top] = [event.clientX + 14, event.clientY + 16];
    this.#tip.style.left = `${Math.min(left, innerWidth - this.#tip.offsetWidth - 8)}px`;
    this.#tip.style.top = `${Math.min(top, innerHeight - this.#tip.offsetHeight - 8)}px`;
  }

  #leave() {
    this.#tip.hidden = true;
    this.#light(null);
  }
}

/** A scene at the picture's own size, as a PNG. */
export function picture(scene) {
  const canvas = document.createElement("canvas");
  // Names stay legible on small pictures.
  const scale = Math.max(1, Math.min(3, 900 / Math.max(scene.width, scene.height)));
  canvas.width = Math.round(scene.width * scale);
  canvas.height = Math.round(scene.height * scale);
  drawScene(canvas.getContext("2d"), { ...scene, scale, lit: new Set() });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
