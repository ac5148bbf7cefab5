import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const SOURCE = readFileSync(new URL("../../public/sw.js", import.meta.url), "utf8");
const ORIGIN = "https://page.example";

type Listener = (event: { waitUntil: (work: Promise<unknown>) => void }) => void;

/** The worker beside a cache that holds this, oldest first; the page that the server gives now begins with `scripts`. */
function aWorker(held: string[], scripts: string[]) {
  const cached = new Map(held.map((path) => [ORIGIN + path, {}]));
  const urlOf = (wanted: string | { url: string }) => (typeof wanted === "string" ? ORIGIN + wanted : wanted.url);
  const cache = {
    put: async (wanted: string, response: unknown) => void cached.set(urlOf(wanted), response as object),
    match: async (wanted: string) => cached.get(urlOf(wanted)),
    addAll: async (paths: string[]) => paths.forEach((path) => cached.set(urlOf(path), {})),
    keys: async () => [...cached.keys()].map((url) => ({ url })),
    delete: async (wanted: { url: string }) => cached.delete(urlOf(wanted)),
  };
  const html = scripts.map((path) => `<script src="${path}"></script>`).join("");
  const listeners = new Map<string, Listener>();
  const self = { addEventListener: (name: string, listener: Listener) => listeners.set(name, listener), skipWaiting: () => undefined, location: { origin: ORIGIN } };
  new Function("self", "caches", "fetch", SOURCE)(self, { open: async () => cache }, async () => new Response(html));
  const install = () => new Promise((resolve) => listeners.get("install")!({ waitUntil: (work) => void work.then(resolve) }));
  return { install, paths: () => [...cached.keys()].map((url) => url.slice(ORIGIN.length)) };
}

test("with too many files kept the oldest go, as few as needed, and none that the page begins with", async () => {
  const shell = ["/assets/index-1.js", "/assets/index-1.css"];
  const others = Array.from({ length: 151 }, (_, count) => `/assets/old-${count}.js`);
  const worker = aWorker([...shell, ...others], shell);
  await worker.install();
  const kept = worker.paths();
  expect(kept).toEqual(expect.arrayContaining(["/", ...shell]));
  expect(kept.filter((path) => path.startsWith("/assets/"))).toHaveLength(150);
  expect(kept).not.toContain("/assets/old-2.js");
  expect(kept).toContain("/assets/old-3.js");
});
