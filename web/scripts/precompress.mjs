// Writes a .gz and a .br beside every text file of dist/, so that the server never compresses a page itself.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

const SMALLEST_WORTH_IT = 512;
const dist = new URL("../dist/", import.meta.url).pathname;
const brotli = promisify(brotliCompress);
const deflate = promisify(gzip);

const entries = await readdir(dist, { recursive: true, withFileTypes: true });
const files = entries
  .filter((entry) => entry.isFile() && /\.(js|css|html|svg|json|txt)$/.test(entry.name))
  .map((entry) => join(entry.parentPath, entry.name));

let plain = 0;
let packed = 0;
for (const file of files) {
  const bytes = await readFile(file);
  if (bytes.length < SMALLEST_WORTH_IT) continue;
  const [br, gz] = await Promise.all([
    brotli(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
    deflate(bytes, { level: 9 }),
  ]);
  await Promise.all([writeFile(`${file}.br`, br), writeFile(`${file}.gz`, gz)]);
  plain += bytes.length;
  packed += br.length;
}
console.log(`precompressed ${files.length} files: ${Math.round(plain / 1024)} kB, ${Math.round(packed / 1024)} kB as brotli`);
