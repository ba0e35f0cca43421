// The page: what is chosen, and how it comes onto the screen.

import { CallError, getModels } from "./api.js";
import { setUpCamera } from "./camera.js";
import { byId, download, oncePerFrame, setText } from "./dom.js";
import { setUpInputs } from "./inputs.js";
import { startLive } from "./live.js";
import { fillComparison, fillLayers, fillModels, fillVersions, isLoaded } from "./menus.js";
import { setUpTheme, setUpToken } from "./preferences.js";
import { showClasses, showFilm, showRows, showTiming } from "./results.js";
import { passes } from "./scene.js";
import { Session } from "./session.js";
import { Stage, picture as pictureOf } from "./stage.js";
import { emptiness, rowsOf, scenesOf, snippetOf, summaryOf, viewOf } from "./view.js";

const PLEASANT_THRESHOLD = 0.5;

const chosen = {
  model: null, // as GET /models describes it
  version: "",
  compare: "",
  tta: false,
  picture: null,
  threshold: PLEASANT_THRESHOLD,
  hidden: new Set(), // keys of classes
  layer: "",
  language: "curl",
  show: { boxes: true, masks: true, keypoints: true, names: true },
};
let models = [];
let problem = null; // of the server itself, not of a picture
let lit = null; // the item under the pointer, or that has the focus in the table

const render = oncePerFrame(update);
const session = new Session(render);
const stage = new Stage(light);
let view = viewOf(chosen, session);

/* How it comes onto the screen */

function update() {
  view = viewOf(chosen, session);
  byId("empty").hidden = chosen.picture !== null;
  byId("work").hidden = chosen.picture === null;
  if (chosen.model) showModel(chosen.model);
  fillLayers(byId("layer"), view.layers, view.layer);
  byId("layer-field").hidden = view.layers.length < 2;
  showFilm(session.pictures, chosen.picture, choosePicture);
  showAlert();
  showPanel();
  showStage();
}

function showModel(model) {
  const { score } = model.thresholds;
  fillModels(byId("model"), models, model.name);
  fillVersions(byId("version"), model, chosen.version);
  byId("compare-field").hidden = !fillComparison(byId("compare"), model, chosen.version, chosen.compare);
  byId("tta-field").hidden = !model.tta;
  byId("model").disabled = byId("version").disabled = false;
  setText(byId("threshold-value"), chosen.threshold.toFixed(2));
  setText(byId("threshold-note"), `The answer starts at ${score.toFixed(2)}; this filters it at once.`);
  const classes = model.classes.length || model.stuff_classes.length;
  const facts = [model.architecture, model.backbone, classes && `${classes} classes`, model.device];
  setText(byId("model-line"), facts.filter(Boolean).join(" · "));
}

function showAlert() {
  const failed = view.sides.find(({ result }) => result.state === "failed");
  const error = problem ?? failed?.result.error ?? null;
  byId("alert").hidden = error === null;
  if (error === null) return setText(byId("alert-text"), "");
  const facts = [
    !problem && view.sides.length > 1 && `version ${failed.version}`,
    error.status && `status ${error.status}`,
    error.code,
    error.retryAfter && `try again in ${error.retryAfter} s`,
    error.requestId && `request ${error.requestId}`,
  ];
  setText(byId("alert-text"), error.message);
  setText(byId("alert-more"), facts.filter(Boolean).join(" · "));
  byId("alert-token").hidden = error.status !== 401;
  return undefined;
}

function showPanel() {
  const items = view.sides.flatMap((side) => side.items);
  showClasses(items, chosen.hidden, (item) => passes(item, chosen.threshold), toggleClass);
  showRows(rowsOf(view), view.sides.length === 2, light);
  setText(byId("no-rows"), emptiness(view));
  setText(byId("summary"), summaryOf(view));
  const done = view.sides.find(({ result }) => result.state === "done");
  showTiming(done?.result.answer, done?.result.seconds);
  byId("request-card").hidden = view.sides.length === 0;
  byId("save-json").disabled = byId("save-picture").disabled = !done;
  if (view.sides.length > 0) setText(byId("snippet"), snippetOf(chosen, models));
}

function showStage() {
  stage.show(scenesOf(view, chosen, lit));
  const all = view.sides.flatMap(({ items }) => items);
  const has = {
    boxes: all.some(({ box }) => box),
    masks: all.some(({ path }) => path),
    keypoints: all.some(({ keypoints }) => keypoints),
    names: all.length > 0,
  };
  byId("shown").hidden = all.length === 0;
  for (const button of document.querySelectorAll("[data-show]")) button.hidden = !has[button.dataset.show];
}

function light(item) {
  if (lit === item) return;
  lit = item;
  if (view.sides.length > 0) stage.show(scenesOf(view, chosen, lit));
}

/* What is chosen */

function choosePicture(picture) {
  chosen.picture = picture;
  lit = null;
  render();
}

function take(files) {
  if (files.length === 0) return;
  const added = session.add(files);
  choosePicture(added[0]);
  for (const picture of added) {
    picture.shown.then(render);
    // All are asked for now, so that their answers are there when they are looked at.
    if (chosen.model) viewOf({ ...chosen, picture, compare: "" }, session);
  }
}

function toggleClass(key) {
  if (!chosen.hidden.delete(key)) chosen.hidden.add(key);
  render();
}

function chooseModel(model) {
  const other = chosen.model?.name !== model.name;
  const loaded = new Set(model.versions.filter(isLoaded).map(({ version }) => version));
  chosen.model = model;
  if (other || !loaded.has(chosen.version)) chosen.version = model.version;
  if (other || !loaded.has(chosen.compare) || chosen.compare === chosen.version) chosen.compare = "";
  if (!model.tta) chosen.tta = byId("tta").checked = false;
  if (!other) return;
  const { score, default_score: own } = model.thresholds;
  chosen.hidden.clear();
  // What the model's owner has set, else what is pleasant to look at.
  chosen.threshold = own > score ? own : Math.max(score, PLEASANT_THRESHOLD);
  byId("threshold").min = String(score);
  byId("threshold").value = String(chosen.threshold);
}

async function refresh() {
  try {
    const answer = await getModels();
    models = answer.models;
    const name = chosen.model?.name ?? answer.default;
    chooseModel(models.find((model) => model.name === name) ?? models[0]);
    problem = null;
  } catch (error) {
    problem = error instanceof CallError ? error : new CallError(`The page has failed: ${error.message}`);
  }
  render();
}

function retry() {
  session.pictures.forEach((picture) => session.retry(picture));
  refresh();
}

/* Controls */

function on(id, event, change) {
  byId(id).addEventListener(event, () => {
    change(byId(id));
    render();
  });
}

on("model", "change", ({ value }) => chooseModel(models.find(({ name }) => name === value)));
on("version", "change", ({ value }) => {
  chosen.version = value;
  if (chosen.compare === value) chosen.compare = "";
});
on("compare", "change", ({ value }) => (chosen.compare = value));
on("tta", "change", ({ checked }) => (chosen.tta = checked));
on("layer", "change", ({ value }) => (chosen.layer = value));
on("threshold", "input", ({ value }) => (chosen.threshold = Number(value)));
on("all-classes", "click", () => chosen.hidden.clear());
on("clear", "click", () => {
  [...session.pictures].forEach((picture) => session.remove(picture));
  choosePicture(null);
  requestAnimationFrame(() => byId("pick").focus());
});

/** Toggle buttons: `data-show` each for itself, `data-language` one of them. */
for (const button of document.querySelectorAll("[data-show], [data-language]")) {
  button.addEventListener("click", () => {
    const { show, language } = button.dataset;
    if (show) chosen.show[show] = !chosen.show[show];
    else chosen.language = language;
    for (const other of document.querySelectorAll("[data-show], [data-language]")) {
      const { show: kind, language: name } = other.dataset;
      other.setAttribute("aria-pressed", String(kind ? chosen.show[kind] : chosen.language === name));
    }
    render();
  });
}

byId("alert-act").addEventListener("click", retry);
byId("alert-token").addEventListener("click", () => byId("token-open").click());

byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(byId("snippet").textContent);
    setText(byId("copied"), "Copied.");
  } catch {
    // The clipboard is closed to pages without https: select the text, and the user copies it.
    getSelection().selectAllChildren(byId("snippet"));
    setText(byId("copied"), "Selected; copy it with Ctrl+C.");
  }
  setTimeout(() => setText(byId("copied"), ""), 4000);
});

const stem = () => chosen.picture.name.replace(/\.[^.]*$/, "");
byId("save-json").addEventListener("click", () => {
  const answers = view.sides.map(({ result }) => result.answer).filter(Boolean);
  const content = JSON.stringify(answers.length === 1 ? answers[0] : answers, null, 1);
  download(new Blob([content], { type: "application/json" }), `${stem()}.json`);
});
byId("save-picture").addEventListener("click", async () => {
  for (const [at, scene] of scenesOf(view, chosen, null).entries()) {
    const suffix = view.sides.length > 1 ? `-${view.sides[at].version}` : "";
    download(await pictureOf(scene), `${stem()}-annotated${suffix}.png`);
  }
});

setUpTheme();
setUpToken(retry);
setUpInputs(take, (error) => {
  problem = error;
  render();
});
setUpCamera((file) => take([file]));
startLive(refresh);
refresh();
