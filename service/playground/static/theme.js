// Light or dark as chosen last, set before the first paint; without a choice the system's holds.
// A plain script and no module: modules run after the page is shown.
try {
  const chosen = localStorage.getItem("detserve-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be closed to the page; the system's theme holds then.
}
