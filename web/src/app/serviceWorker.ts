/** Has the page open without a network too, and be installed (public/sw.js). Only built pages: the dev server reloads by itself. */
export function registerServiceWorker(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  // Where it is refused, the page works as it always did, only not offline.
  window.addEventListener("load", () => void navigator.serviceWorker.register("/sw.js").catch(() => undefined));
}
