// Plays an HLS address in a headless Chromium and prints what was seen, as JSON:
//   node play.mjs --url http://127.0.0.1:8080/hls/ID/index.m3u8 --seconds 30 [--chromium PATH]
// {played_s, errors: [], black_samples, samples, stalls, discontinuities_seen, items: [], dropped_frames}
// `items` are the barcode's item numbers in the order in which they were seen.

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    seconds: { type: "string", default: "20" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
  },
});
const seconds = Number(values.seconds);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
];
const FILES = {
  "/": ["page.html", "text/html"],
  "/viewer.js": ["viewer.js", "text/javascript"],
  "/hls.js": ["node_modules/hls.js/dist/hls.min.js", "text/javascript"],
};

function serve() {
  const server = createServer(async (request, response) => {
    const [file, kind] = FILES[request.url] ?? [];
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": kind });
    return response.end(await readFile(new URL(file, import.meta.url)));
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

async function watch(page) {
  const deadline = Date.now() + (seconds * 1.5 + 30) * 1000;
  for (;;) {
    await page.waitForTimeout(250);
    const seen = await page.evaluate(() => window.seen);
    const fatal = seen.errors.some((error) => error.fatal);
    if (seen.played_s >= seconds || fatal || Date.now() > deadline) return seen;
  }
}

const server = await serve();
const profile = await mkdtemp(join(tmpdir(), "viewer-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: values.chromium,
  headless: true,
  args: FLAGS,
});
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate((url) => window.play(url), values.url);
  process.stdout.write(`${JSON.stringify(await watch(page))}\n`);
} finally {
  await browser.close();
  server.close();
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}
