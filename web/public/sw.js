// Keeps the page itself, and nothing that it shows: no answer of the API is ever in this cache.
const CACHE = "triplane-shell-1";
const SHELL = "/";
const MOST_ASSETS = 150;
const KEPT_AT_ROOT = new Set(["/theme.js", "/manifest.webmanifest", "/icon-192.png", "/icon-512.png"]);

/** The page and what its first moment needs. */
async function keepShell(response) {
  const cache = await caches.open(CACHE);
  const html = await response.clone().text();
  await cache.put(SHELL, response);
  const wanted = [...html.matchAll(/(?:src|href)="(\/(?:assets\/[^"]+|theme\.js))"/g)].map(([, path]) => path);
  const missing = [];
  for (const path of wanted) if (!(await cache.match(path))) missing.push(path);
  await cache.addAll(missing);
  await trim(cache, new Set(wanted));
}

/** Lets go of the oldest assets when there are too many, and of none that this page begins with. */
async function trim(cache, shell) {
  const kept = (await cache.keys()).filter(({ url }) => new URL(url).pathname.startsWith("/assets/"));
  const spare = kept.filter(({ url }) => !shell.has(new URL(url).pathname));
  await Promise.all(spare.slice(0, Math.max(0, kept.length - MOST_ASSETS)).map((request) => cache.delete(request)));
}

async function page(event) {
  try {
    const response = await fetch(event.request);
    const isShell = response.ok && !response.redirected && (response.headers.get("content-type") ?? "").startsWith("text/html");
    if (isShell) event.waitUntil(keepShell(response.clone()).catch(() => undefined));
    return response;
  } catch (error) {
    const kept = await caches.match(SHELL);
    if (kept) return kept;
    throw error;
  }
}

/** A file whose name carries its hash never changes; the others are asked for first. */
async function asset(request, isForever) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request);
  if (kept && isForever) return kept;
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(fetch(SHELL).then((response) => (response.ok ? keepShell(response) : undefined)));
});

self.addEventListener("activate", (event) => {
  const others = caches.keys().then((names) => Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name))));
  event.waitUntil(others.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  const isPage = request.mode === "navigate" && (url.pathname === "/" || /^\/(?:c|settings)\//.test(url.pathname));
  if (isPage) event.respondWith(page(event));
  else if (url.pathname.startsWith("/assets/")) event.respondWith(asset(request, true));
  else if (KEPT_AT_ROOT.has(url.pathname)) event.respondWith(asset(request, false));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const path = event.notification.data?.path ?? "/";
  const open = async () => {
    const [tab] = await self.clients.matchAll({ type: "window" });
    if (!tab) return self.clients.openWindow(path);
    await tab.focus();
    return tab.navigate(path);
  };
  event.waitUntil(open());
});
