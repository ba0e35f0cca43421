// Token and theme: the user's own, kept by the browser.

import { token } from "./api.js";
import { byId, setText } from "./dom.js";

/** @param {() => void} changed called when there is another token */
export function setUpToken(changed) {
  byId("token-open").addEventListener("click", () => {
    byId("token").value = token.get();
    byId("token-dialog").showModal();
  });
  byId("token-close").addEventListener("click", () => byId("token-dialog").close());
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault(); // nothing is sent
    token.set(byId("token").value.trim());
    byId("token-dialog").close();
    changed();
  });
}

/** The button between light and dark; without a choice the system's theme holds. */
export function setUpTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const name = () => {
    setText(byId("theme"), isDark() ? "Light" : "Dark");
    byId("theme").setAttribute("aria-label", isDark() ? "Light theme" : "Dark theme");
  };
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("detserve-theme", root.dataset.theme);
    } catch {
      // Storage may be closed to the page; the theme holds for this visit then.
    }
    name();
  });
  system.addEventListener("change", name);
  name();
}
