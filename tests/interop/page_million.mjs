// The auditor's page over a log of a million entries: node page_million.mjs [ENTRIES]
// No gateway could be filled so far in a test's time, so a server here speaks for one: the page's own files, a true signed
// tree over made-up leaves, made anew when asked for. It says how long each view takes and how much the page then holds.
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const size = Number(process.argv[2] ?? 1_000_000);
const page = new URL("../../src/http/page/", import.meta.url);
const { tileName } = await import(new URL("tiles.js", page));
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const origin = "million.example/log";
const pair = generateKeyPairSync("ed25519");
const raw = Buffer.concat([Buffer.of(1), pair.publicKey.export({ format: "der", type: "spki" }).subarray(-32)]);
const id = sha256(`${origin}\n`, raw).subarray(0, 4);
const vkey = `${origin}+${id.toString("hex")}+${raw.toString("base64")}`;

// Thirty days of entries, about half a kilobyte each; every 10,000th is an emergency.
const [now, month] = [Date.now(), 30 * 86_400_000];
const filler = "x".repeat(43);
function leaf(i) {
  const ev = i % 7 === 0 ? "record.refuse" : i % 2 ? "record.release" : "token.issue";
  const c = `{"actor":"${filler}","context":"${filler}","object":"${filler}","subject":"${filler}"}`;
  const alert = i % 10_000 === 0 ? '"al":"break-glass",' : "";
  const ts = now - month + Math.floor((i / size) * month);
  return `{${alert}"atag":"AAAAAAAAAAAAAAAAAAAAAA","b":"${filler}","c":${c},"ev":"${ev}","gw":"gw1","i":${i},"n":"AAAAAAAAAAAAAAAAAAAAAA","of":"R${i % 97}","out":"${i % 7 ? "permit" : "refuse"}","pol":"0123456789abcdef","tag":"AAAAAAAAAAAAAAAAAAAAAA","ts":${ts},"v":1}`;
}

const levels = [Array.from({ length: size }, (_, i) => sha256(Buffer.of(0), leaf(i)))];
while (levels.at(-1).length > 1) {
  const below = levels.at(-1);
  levels.push(Array.from({ length: Math.floor(below.length / 2) }, (_, i) => sha256(Buffer.of(1), below[2 * i], below[2 * i + 1])));
}
function range(start, end) {
  const count = end - start;
  const level = Math.log2(count);
  if (Number.isInteger(level) && start % count === 0) return levels[level][start / count];
  const half = 2 ** Math.ceil(Math.log2(count) - 1);
  return sha256(Buffer.of(1), range(start, start + half), range(start + half, end));
}
const head = `${origin}\n${size}\n${range(0, size).toString("base64")}\n`;
const signed = Buffer.concat([id, sign(null, Buffer.from(head), pair.privateKey)]).toString("base64");
const state = {
  client: "auditor", role: "auditor", now_ms: now, log: { vkey, entries: size }, health: { status: "serving", why: null },
  alerts: { standing: [], targets: [], open_items: 0 }, feeds: [], keys: [],
};

function bundle(index, width) {
  return Buffer.concat(Array.from({ length: width }, (_, at) => {
    const text = Buffer.from(leaf(index * 256 + at));
    return Buffer.concat([Buffer.of(text.length >> 8, text.length & 255), text]);
  }));
}
const csp = /"(default-src[^"]*)"/.exec(readFileSync(new URL("../page.rs", page), "utf8"))[1].replaceAll(/\\\n\s*/g, "");
let reads = 0;
function answer(path) {
  const found = /^\/log\/tile\/(entries|\d)\/([x\d/]+)(?:\.p\/(\d+))?$/.exec(path);
  if (path === "/auditor") return ["text/html", readFileSync(new URL("index.html", page))];
  if (path === "/auditor/state") return ["application/json", JSON.stringify(state)];
  if (path === "/log/checkpoint") return ["text/plain", `${head}\n\u2014 ${origin} ${signed}\n`];
  if (!found) return [path.endsWith(".css") ? "text/css" : path.endsWith(".svg") ? "image/svg+xml" : "text/javascript", readFileSync(new URL(path.slice("/auditor/".length), page))];
  const [, level, name, width = "256"] = found;
  const index = Number(name.replaceAll(/[x/]/g, ""));
  assert.equal(path, `/log/${tileName(level, index, Number(width))}`);
  reads += 1;
  if (level === "entries") return ["application/octet-stream", bundle(index, Number(width))];
  return ["application/octet-stream", Buffer.concat(levels[8 * Number(level)].slice(index * 256, index * 256 + Number(width)))];
}
const server = createServer((asked, answering) => {
  const [type, body] = answer(asked.url);
  answering.writeHead(200, { "content-type": type, "content-security-policy": csp }).end(body);
}).listen(0, "127.0.0.1");
await new Promise((ready) => server.once("listening", ready));

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
const tab = await browser.newPage();
tab.on("console", (message) => assert.fail(message.text()));
async function timed(what, work) {
  const [began, before] = [performance.now(), reads];
  await work();
  const nodes = await tab.evaluate(() => document.querySelectorAll("*").length);
  assert(nodes < 2500, `${nodes} elements`);
  console.log(`${what}: ${Math.round(performance.now() - began)} ms, ${reads - before} files read, ${nodes} elements in the page`);
}
const heading = (name) => tab.getByRole("heading", { name }).first().waitFor({ timeout: 900_000 });
const to = (hash) => tab.evaluate((it) => { location.hash = it; }, hash);
await timed("the page opens and the checkpoint holds", async () => {
  await tab.goto(`http://127.0.0.1:${server.address().port}/auditor`);
  await heading("The signed log holds");
});
await timed("the newest entries", async () => { await to("#/log"); await heading("Entries"); });
await timed("an entry in the middle, proven", async () => { await to(`#/entry/${Math.floor(size / 2)}`); await heading("Proven in this browser"); });
await timed("the newest 50 refusals", async () => {
  await to("#/search");
  await tab.getByLabel("Outcome").selectOption("refuse");
  await tab.getByRole("button", { name: "Search", exact: true }).click();
  await tab.getByText("50 entries found").first().waitFor();
});
await timed("every emergency there ever was", async () => {
  await tab.getByLabel("Outcome").selectOption("");
  await tab.getByLabel("What happened").selectOption("alert:break-glass");
  await tab.getByLabel("Organisation").fill("R9");
  await tab.getByRole("button", { name: "Search", exact: true }).click();
  await heading("Results");
  await tab.getByText(/entr(y|ies) found in the [\d,]+ entries/).first().waitFor({ timeout: 900_000 });
});
await timed("the same again, of another organisation", async () => {
  await tab.getByLabel("Organisation").fill("R10");
  await tab.getByRole("button", { name: "Search", exact: true }).click();
  await tab.locator(".working").waitFor({ state: "detached", timeout: 900_000 });
});
await timed("charts of the whole log", async () => { await to("#/charts/all"); await tab.locator("figure").first().waitFor({ timeout: 900_000 }); });
await timed("every entry hashed anew", async () => {
  await to("#/overview");
  await heading("Overview");
  await tab.getByRole("button", { name: "Check every entry now" }).click();
  await heading("Every entry holds");
});
await browser.close();
server.close();
