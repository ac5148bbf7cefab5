import { existsSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";

const DIST = new URL("../../dist/", import.meta.url);
const MOST_GZIPPED = 200 * 1024;

/** The scripts that the first moment loads: those of index.html and all that they import before they run. */
function initialScripts(): Set<string> {
  const html = readFileSync(new URL("index.html", DIST), "utf8");
  const waiting = [...html.matchAll(/(?:src|href)="\/(assets\/[^"]+\.js|theme\.js)"/g)].map(([, path]) => path!);
  const found = new Set<string>();
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (found.has(path)) continue;
    found.add(path);
    const source = readFileSync(new URL(path, DIST), "utf8");
    for (const [, name] of source.matchAll(/(?:from|import)\s*"\.\/([^"]+\.js)"/g)) waiting.push(`assets/${name}`);
  }
  return found;
}

// `make test` builds the page before it runs this.
test.skipIf(!existsSync(new URL("index.html", DIST)))("the first load stays under its budget of script", () => {
  const scripts = [...initialScripts()];
  expect(scripts.length).toBeGreaterThan(1);
  const size = scripts.reduce((sum, path) => sum + gzipSync(readFileSync(new URL(path, DIST)), { level: 9 }).length, 0);
  expect(size, scripts.join(", ")).toBeLessThan(MOST_GZIPPED);
});
