// How pictures come in: files, drops, the clipboard, samples.

import { address, getSample, getSamples } from "./api.js";
import { byId, element } from "./dom.js";

/**
 * @param {(files: File[]) => void} take
 * @param {(error: Error) => void} fail
 */
export function setUpInputs(take, fail) {
  const files = byId("files");
  for (const id of ["pick", "pick-more"]) byId(id).addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    take([...files.files]);
    files.value = ""; // the same file may be chosen again
  });

  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take([...event.clipboardData.files]);
  });

  // Of nested elements each tells that it was entered and left.
  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const over = (change) => (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = Math.max(0, depth + change);
    byId("drop").hidden = depth === 0;
  };
  addEventListener("dragenter", over(1));
  addEventListener("dragleave", over(-1));
  addEventListener("dragover", over(0));
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    byId("drop").hidden = true;
    take([...event.dataTransfer.files]);
  });

  getSamples().then(
    (names) => {
      byId("sample-list").replaceChildren(
        ...names.map((name) =>
          element(
            "button",
            {
              type: "button", class: "tile", "aria-label": `Sample ${name}`,
              onclick: () => getSample(name).then((file) => take([file]), fail),
            },
            element("img", { src: address(`playground/samples/${encodeURIComponent(name)}`), alt: "" }),
          ),
        ),
      );
      byId("samples").hidden = names.length === 0;
    },
    () => {}, // the page works without samples; if the server is away, the models say so
  );
}
