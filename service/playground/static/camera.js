// A picture from the camera: a dialogue with what it sees and a shutter.

import { byId, setText } from "./dom.js";

const REASONS = {
  NotAllowedError: "The browser does not let this page use the camera. Allow it in the address bar, then try again.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is used by another program.",
};

/** @param {(file: File) => void} taken */
export function setUpCamera(taken) {
  const dialog = byId("camera");
  const video = byId("camera-video");
  let stream = null;
  let shots = 0;

  for (const id of ["camera-open", "camera-more"]) byId(id).addEventListener("click", open);
  byId("camera-close").addEventListener("click", () => dialog.close());
  byId("camera-shoot").addEventListener("click", shoot);
  dialog.addEventListener("close", () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
  });

  async function open() {
    setText(byId("camera-problem"), "");
    byId("camera-shoot").disabled = true;
    dialog.showModal();
    if (!navigator.mediaDevices) {
      setText(byId("camera-problem"), "Browsers open the camera only to pages by https or from localhost.");
      return;
    }
    try {
      const opened = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment", width: { ideal: 1280 } },
      });
      if (!dialog.open) {
        opened.getTracks().forEach((track) => track.stop());
        return;
      }
      stream = video.srcObject = opened;
      await video.play();
      byId("camera-shoot").disabled = false;
      byId("camera-shoot").focus();
    } catch (error) {
      setText(byId("camera-problem"), REASONS[error.name] ?? `The camera cannot be opened: ${error.message}`);
    }
  }

  async function shoot() {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    dialog.close();
    taken(new File([blob], `camera-${++shots}.jpg`, { type: "image/jpeg" }));
  }
}
