// The auditor's page of a `sallyport dev` world in headless Chromium, over mutual TLS: node page.mjs DIR WORK [SHOTS]
// Plays what an auditor does, by keyboard too; sees a proof succeed and tampered ones fail; holds every view against
// axe-core; and checks that no request left the origin, nothing was said on the console and no rule of the CSP was broken.
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { request } from "node:https";
import assert from "node:assert/strict";
import { browser } from "./browser.mjs";

const [dir, work, shots = `${work}/shots`] = process.argv.slice(2);
const { url } = JSON.parse(readFileSync(`${dir}/world.json`));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
mkdirSync(shots, { recursive: true });

/** What the gateway answers this party, without a browser. */
function direct(party, path) {
  const own = (file) => readFileSync(`${dir}/clients/${party}/${file}`);
  const tls = { ca: readFileSync(`${dir}/ca.pem`), cert: own("cert.pem"), key: own("key.pem") };
  return new Promise((done, failed) => {
    const asked = request(`${url}${path}`, tls, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => done({ status: answer.statusCode, body: Buffer.concat(parts) }));
    });
    asked.on("error", failed).end();
  });
}

/** A party's browser with one page, watched. */
async function open(party) {
  const context = await browser({ dir, url, party, home: `${work}/${party}`, viewport: { width: 1280, height: 900 } });
  const page = context.pages()[0] ?? (await context.newPage());
  const wrong = [];
  page.on("console", (message) => wrong.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  context.on("request", (asked) => {
    if (!asked.url().startsWith(`${url}/`)) wrong.push(`left the origin: ${asked.url()}`);
  });
  await page.addInitScript(() => {
    globalThis.violations = [];
    addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
  });
  await page.goto(`${url}/auditor`);
  await page.waitForSelector("h1");
  return { context, page, wrong };
}

/** Goes to a view and waits until its heading has these words. */
async function visit(page, hash, heading) {
  await page.evaluate((to) => { location.hash = to; }, hash);
  await page.waitForFunction((words) => document.querySelector("main h1")?.textContent.startsWith(words), heading);
}

/** A picture at three widths, nothing cut off sideways, and no fault that axe-core finds. */
async function look(page, name) {
  for (const width of [320, 1280, 1920]) {
    await page.setViewportSize({ width, height: 900 });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert(over <= 0, `${name} is ${over} px too wide at ${width}`);
    await page.screenshot({ path: `${shots}/${name}-${width}.png`, fullPage: true });
    await page.evaluate(axe);
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const { violations } = await page.evaluate((run) => globalThis.axe.run({ runOnly: run }), tags);
    const found = violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.target.join(" ")).slice(0, 3).join(", ")}`);
    assert.deepEqual(found, [], `axe-core on ${name} at ${width}`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });
}

async function nothingWrong({ page, wrong }) {
  assert.deepEqual([...wrong, ...(await page.evaluate(() => violations))], []);
}

// --- who is let in ---------------------------------------------------------------------------------------------------
for (const party of ["hospital-a", "admin-1", "practice-a", "patient-portal"]) {
  const refused = await direct(party, "/auditor");
  assert.equal(refused.status, 403, party);
  assert.equal(refused.body.toString(), (await direct(party, "/log/tile/entries/000")).body.toString());
}

// --- the auditor -----------------------------------------------------------------------------------------------------
const auditor = await open("auditor");
const { page } = auditor;
await page.getByRole("heading", { name: "The signed log holds" }).waitFor();
await look(page, "overview");

await visit(page, "#/log", "Entries");
await look(page, "entries");
await page.getByLabel("Open entry number").fill("11");
await page.keyboard.press("Enter");
await page.getByRole("heading", { name: "Proven in this browser" }).waitFor();
for (const summary of await page.locator("summary").all()) await summary.click();
await look(page, "entry");
console.log("an entry is proven in the browser");

// By keyboard alone: the skip link comes first, then the way to another view, and the focus follows.
await page.goto(`${url}/auditor`);
await page.getByRole("heading", { name: "The signed log holds" }).waitFor();
await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to main content");
await page.keyboard.press("Enter");
await page.keyboard.press("Tab");
assert(await page.evaluate(() => document.querySelector("main").contains(document.activeElement)), "the skip link skips");
await page.goto(`${url}/auditor`);
await page.getByRole("heading", { name: "The signed log holds" }).waitFor();
for (let step = 0; step < 4; step += 1) await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.textContent), "Entries");
await page.keyboard.press("Enter");
await page.locator("main h1", { hasText: "Entries" }).waitFor();
assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1", "the focus is on the new heading");
console.log("the page is walked by keyboard");
await nothingWrong(auditor);

// --- a gateway that lies ---------------------------------------------------------------------------------------------
/** Answers what matches with the true bytes, changed; gives back whether it was asked. */
async function tamper(pattern, change) {
  await page.unrouteAll();
  await page.route(pattern, async (route) => {
    const { body } = await direct("auditor", new URL(route.request().url()).pathname);
    await route.fulfill({ status: 200, contentType: "application/octet-stream", body: change(body) });
  });
}
const flip = (at) => (body) => {
  body[at] ^= 1;
  return body;
};
/** Another letter in the text of entry 3, at the same length: the organisation that it concerns. */
const rewrite = (body) => Buffer.from(body.toString("latin1").replace('"owner":"A81001"', '"owner":"A81002"'), "latin1");
for (const [what, pattern, change] of [
  ["an entry", "**/log/tile/entries/**", rewrite],
  ["a hash of the tree", "**/log/tile/0/**", flip(0)],
]) {
  await page.goto("about:blank");
  await page.goto(`${url}/auditor#/log`);
  await page.locator("main h1", { hasText: "Entries" }).waitFor();
  await page.goto("about:blank");
  await page.evaluate(() => {});
  await tamper(pattern, change);
  await page.goto(`${url}/auditor#/entry/3`);
  const loud = page.locator(".loud", { hasText: "NOT proven" }).or(page.locator("h1", { hasText: "not believed" }));
  await loud.first().waitFor();
  assert.equal(await page.getByText("Proven in this browser").count(), 0, what);
  if (what === "an entry") await look(page, "tampered");
  await page.unrouteAll();
}
await tamper("**/log/checkpoint", (body) => Buffer.from(body.toString().replace(/\n\d+\n/, "\n7\n")));
await page.goto("about:blank");
await page.goto(`${url}/auditor`);
await page.getByRole("heading", { name: "The log does not hold" }).waitFor();
assert(await page.getByText("the signature of this log’s key is wrong").or(page.getByText("signature of this log")).count());
await look(page, "forged");
await page.unrouteAll();
console.log("a changed entry, tree and checkpoint are each said loudly");

// A log that was cut back is sound in itself: only what this browser kept shows it.
await page.goto("about:blank");
await page.goto(`${url}/auditor`);
await page.getByRole("heading", { name: "The signed log holds" }).waitFor();
await page.evaluate(() => {
  const kept = JSON.parse(localStorage.getItem("sallyport.log"));
  localStorage.setItem("sallyport.log", JSON.stringify({ ...kept, size: kept.size + 1000 }));
});
await page.reload();
await page.getByText("Entries are gone").waitFor();
await page.evaluate(() => {
  const kept = JSON.parse(localStorage.getItem("sallyport.log"));
  localStorage.setItem("sallyport.log", JSON.stringify({ ...kept, size: kept.size - 1003 }));
});
await page.reload();
await page.getByText("History was rewritten").waitFor();
console.log("a log cut back and a history rewritten are noticed");
await nothingWrong(auditor);
await auditor.context.close();
