// Runs before the first paint, so that a chosen theme doesn't flash. The rest of the theme's code is src/app/theme.ts.
try {
  const theme = localStorage.getItem("triplane.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage: as the system has it.
}
