// The auditor's page of a `sallyport dev` world in headless Chromium, over mutual TLS: node page.mjs DIR WORK [SHOTS]
// Plays what an auditor does, by keyboard too; sees a proof succeed and tampered ones fail; holds every view against
// axe-core; and checks that no request left the origin, nothing was said on the console and no rule of the CSP was broken.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { request } from "node:https";
import assert from "node:assert/strict";
import { browser } from "./browser.mjs";
import { jose } from "./tokens.mjs";

const [dir, work, shots = `${work}/shots`] = process.argv.slice(2);
const world = JSON.parse(readFileSync(`${dir}/world.json`));
const { url } = world;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
mkdirSync(shots, { recursive: true });

const own = (party, file) => readFileSync(`${dir}/clients/${party}/${file}`);
const tlsOf = (party) => ({ ca: readFileSync(`${dir}/ca.pem`), cert: own(party, "cert.pem"), key: own(party, "key.pem") });

/** What the gateway answers this party, without a browser. */
function direct(party, path, body) {
  const how = body ? { method: "POST", headers: { "content-type": "application/json" } } : {};
  return new Promise((done, failed) => {
    const asked = request(`${url}${path}`, { ...tlsOf(party), ...how }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => done({ status: answer.statusCode, body: Buffer.concat(parts) }));
    });
    asked.on("error", failed).end(body && JSON.stringify(body));
  });
}

/** Everything in the world's catalogue is asked for once, so that there is something to see. */
async function live() {
  const parties = new Map();
  for (const { client, authorization_details: details, path } of world.asks) {
    const { client_id: id } = world.organisations.find((it) => it.name === client) ?? {};
    if (!id) continue;
    if (!parties.has(client)) {
      parties.set(client, await jose({ world, client: id, tls: tlsOf(client), key: JSON.parse(own(client, "sign.jwk")) }));
    }
    const token = await parties.get(client).token(details).catch(() => null);
    if (token && path) await parties.get(client).read(path, token);
  }
  for (const party of parties.values()) party.close();
}

/** Two administrators disclose everybody's audit keys to the auditor; gives the file. */
async function disclose() {
  const act = { act: "audit.disclose", object: "auditor", why: "the page is tried", payload: { all: true } };
  const proposed = JSON.parse((await direct("admin-1", "/admin/acts", act)).body);
  const approved = await direct("admin-2", `/admin/proposals/${proposed.proposal.digest}/approve`, {});
  assert.equal(approved.status, 200, approved.body.toString());
  writeFileSync(`${work}/disclosed.json`, approved.body);
  return `${work}/disclosed.json`;
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

await live();
const disclosed = await disclose();

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

await visit(page, "#/overview", "Overview");
await page.getByRole("button", { name: "Check every entry now" }).click();
await page.getByRole("heading", { name: "Every entry holds" }).waitFor();
console.log("every entry is hashed in the browser, and the signed root comes out");

await visit(page, "#/charts", "Accesses and refusals");
await page.locator("figure figcaption").first().waitFor();
const drawn = await page.locator("figure figcaption").allTextContents();
assert(drawn.every((text) => !/[^\d]0 in all/.test(text)), drawn.join("; "));
await page.locator("summary").click();
await look(page, "charts");

// What stands in clear is searched at once; who, whom and why once keys were disclosed.
await visit(page, "#/search", "Search");
await page.getByLabel("What happened").selectOption("alert:break-glass");
await page.getByRole("button", { name: "Search", exact: true }).click();
await page.getByText(/[1-9]\d* entr(y|ies) found/).first().waitFor();
await look(page, "search");
await page.getByText("Open what is sealed").click();
await page.getByLabel("The disclosure").setInputFiles(disclosed);
await page.getByLabel("Your own private key").setInputFiles(`${dir}/clients/hospital-a/open.jwk`);
await page.getByRole("button", { name: "Open", exact: true }).click();
await page.getByText("this key does not open this disclosure").waitFor();
await page.getByLabel("Your own private key").setInputFiles(`${dir}/clients/auditor/open.jwk`);
await page.getByRole("button", { name: "Open", exact: true }).click();
await page.getByLabel("Practitioner").fill("dr-okafor");
await page.getByLabel("Organisation").fill("rj1");
await page.getByLabel("Purpose").selectOption("BTG");
await page.getByLabel("What happened").selectOption("");
await page.getByLabel("First day").fill("11/12/2026");
await page.getByRole("button", { name: "Search", exact: true }).click();
await page.getByText("with the month as a word").waitFor();
await page.getByLabel("First day").fill("1 January 2020");
await page.getByLabel("Last day").fill("31 Dec 2090");
await page.getByRole("button", { name: "Search", exact: true }).click();
await page.getByText(/[1-9]\d* entr(y|ies) found/).first().waitFor();
const found = await page.locator("table.entries tbody tr").allTextContents();
assert(found.length > 0 && found.every((text) => text.includes("dr-okafor, RJ1") && text.includes("break-glass")), found.join("; "));
await look(page, "unlocked");
await page.locator("table.entries a").first().click();
await page.getByRole("heading", { name: "What was sealed" }).waitFor();
await page.getByRole("heading", { name: "Proven in this browser" }).waitFor();
await look(page, "opened");
await page.getByLabel("Main").getByText("Reviews").click();
await page.getByText("For privacy officers").waitFor();
await look(page, "reviews-auditor");
console.log("entries are searched in clear and, with disclosed keys, by who, whom and why");

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

// --- the privacy officer ---------------------------------------------------------------------------------------------
const officer = await open("privacy-officer");
const desk = officer.page;
await visit(desk, "#/reviews", "Reviews");
await look(desk, "reviews");
const items = await desk.locator("tbody tr").count();
await desk.locator("tbody tr", { hasText: "Emergency declared" }).first().locator("a").click();
await desk.getByRole("heading", { name: "Proven in this browser" }).waitFor();
await look(desk, "review");
await desk.getByLabel("It was in order").focus();
await desk.keyboard.press("Space");
await desk.getByLabel("Explanation", { exact: true }).fill("Seen with the ward: the patient was brought in unconscious.");
await desk.getByRole("button", { name: "Close this item" }).click();
await desk.locator("main h1", { hasText: "Reviews" }).waitFor();
await desk.waitForFunction((before) => document.querySelectorAll("tbody tr").length === before - 1, items);
await visit(desk, "#/reviews/all", "Reviews");
await desk.locator("tbody .tag-good", { hasText: "closed" }).first().waitFor();
console.log("a declared emergency is reviewed and closed");
await nothingWrong(officer);
await officer.context.close();
