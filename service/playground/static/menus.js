// The menus of models and versions.

import { element } from "./dom.js";
import { LAYERS } from "./scene.js";

const WORDS = {
  incomplete: "incomplete",
  available: "not loaded",
  loading: "loading",
  checking: "being checked",
  warming: "warming up",
  draining: "unloading",
  failed: "failed",
};

/** Whether requests may name this version. */
export const isLoaded = (version) => version.state === "ready";

/** Fill a menu with options, and leave it alone if it has them: an open menu must not close. */
function fill(select, options, chosen) {
  const wanted = JSON.stringify(options);
  if (select.dataset.options !== wanted) {
    select.dataset.options = wanted;
    select.replaceChildren(
      ...options.map(({ value, text, disabled, title }) => element("option", { value, disabled, title }, text)),
    );
  }
  select.value = chosen;
}

/** The menu of models. */
export function fillModels(select, models, chosen) {
  fill(select, models.map(({ name }) => ({ value: name, text: name })), chosen);
}

/** The menu of versions: those that are not loaded stand there, but cannot be chosen. */
export function fillVersions(select, model, chosen) {
  fill(select, model.versions.map((version) => option(version)), chosen);
}

/** The menu of versions to compare with. Returns whether there is one that can be chosen. */
export function fillComparison(select, model, version, chosen) {
  const others = model.versions.filter((other) => other.version !== version);
  fill(select, [{ value: "", text: "Nothing" }, ...others.map(option)], chosen);
  return others.some(isLoaded);
}

/** The menu of what an answer holds besides instances. */
export function fillLayers(select, layers, chosen) {
  fill(select, layers.map((layer) => ({ value: layer, text: LAYERS[layer] })), chosen);
}

function option(version) {
  const notes = [];
  if (version.current) notes.push("current");
  notes.push(...version.aliases);
  if (!isLoaded(version)) notes.push(WORDS[version.state] ?? version.state);
  return {
    value: version.version,
    text: notes.length ? `${version.version} (${notes.join(", ")})` : version.version,
    disabled: !isLoaded(version),
    title: version.reason,
  };
}
