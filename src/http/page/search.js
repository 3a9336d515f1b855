// Search: what stands in clear, and with disclosed keys what is sealed. The form stays as it was left; nothing of it stands
// in the address, where it would be remembered.

import { field, h, say, table } from "./dom.js";
import { HEAD, ROWS, link, outcomeTag } from "./list.js";
import { ask, stop } from "./scanner.js";
import { unlocking } from "./unlock.js";
import { GROUPS, count, eventWords, events, groupOf, moment, plural } from "./words.js";

const PURPOSES = {
  TREAT: "direct care", ETREAT: "emergency care", BTG: "break-glass", HRESCH: "research", PUBHLTH: "public health", HOPERAT: "running the service",
};

const kept = {};

/** `#/search` */
export async function search({ log, unlocked, reload }) {
  const results = h("div", { class: "results" });
  return [
    h("h1", {}, "Search"),
    form(log, unlocked, results),
    results,
    unlocking(unlocked, reload),
  ];
}

function select(name, options) {
  const control = h("select", { name }, options);
  control.value = kept[name] ?? "";
  return control;
}

const option = (value, words) => h("option", { value }, words);
const input = (name, type, more = {}) => h("input", { name, type, value: kept[name] ?? "", autocomplete: "off", ...more });

function form(log, unlocked, results) {
  const groups = Object.entries(GROUPS).map(([group, words]) =>
    h("optgroup", { label: words },
      option(`${group}:`, `All: ${words.toLowerCase()}`),
      events().filter((event) => groupOf(event) === group).map((event) => option(event, eventWords(event)))));
  const fields = [
    field("What happened", select("event", [option("", "Anything"), option("alert:break-glass", "Emergencies declared (break-glass)"), groups])),
    field("Outcome", select("outcome", [option("", "Any"), option("permit", "Permitted"), option("refuse", "Refused")])),
    field("First day", input("since", "text"), "For example, 22 Nov 2026"),
    field("Last day", input("until", "text"), "For example, 30 Nov 2026"),
    field("Organisation", input("of", "text", { spellcheck: "false" }), unlocked ? "ODS code, such as RJ1" : "ODS code. Sealed in most entries: see below the results"),
  ];
  if (unlocked) {
    fields.push(
      field("Practitioner", input("who", "text", { spellcheck: "false" }), "The id in the organisation’s directory"),
      field("Purpose", select("purpose", [option("", "Any"), Object.entries(PURPOSES).map(([code, words]) => option(code, `${words} (${code})`))])),
      field("Patient", input("patient", "text", { inputmode: "numeric" }), "NHS number; it stays in this page"));
  }
  const error = h("p", { class: "error", role: "alert" });
  const submit = (event) => {
    event.preventDefault();
    for (const control of event.target.elements) if (control.name) kept[control.name] = control.value.trim();
    const wrong = ["since", "until"].find((name) => kept[name] && day(kept[name], 0) === null);
    error.textContent = wrong ? "Enter a day with the month as a word, such as 22 Nov 2026" : "";
    if (wrong) return event.target.elements[wrong].focus();
    run(log, unlocked, results, { before: log.checkpoint.size, rows: [] });
  };
  return h("form", { class: "filters", onsubmit: submit, role: "search", "aria-label": "Entries of the log" },
    h("div", { class: "grid" }, fields), error, h("button", { class: "button", type: "submit" }, "Search"));
}

const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/** The beginning of a day that is written so that nobody can misread it, and `more` days on; null if it is none. */
function day(text, more) {
  const found = /^(\d{1,2}) ([a-z]{3})[a-z]* (\d{4})$/i.exec(text);
  const month = found ? MONTHS.indexOf(found[2].toLowerCase()) : -1;
  if (month < 0) return null;
  const at = new Date(Number(found[3]), month, Number(found[1]));
  return at.getMonth() === month ? at.setDate(at.getDate() + more) : null;
}

/** What the worker is asked, out of the form. */
function query() {
  const { event = "", outcome, of, who, purpose, patient } = kept;
  const list = (value) => (value ? [value] : undefined);
  const asked = {
    out: list(outcome), of: list(of?.toUpperCase()), who: list(who), purpose: list(purpose),
    patient: list(patient?.replaceAll(" ", "")), since: day(kept.since ?? "", 0), until: day(kept.until ?? "", 1),
  };
  if (event.startsWith("alert:")) asked.al = [event.slice(6)];
  else if (event.endsWith(":")) asked.ev = events().filter((name) => groupOf(name) === event.slice(0, -1));
  else if (event) asked.ev = [event];
  return asked;
}

async function run(log, unlocked, results, { before, rows }) {
  const size = log.checkpoint.size;
  const progress = h("progress", { max: size, value: 0, "aria-label": "Entries searched" });
  const told = h("p", { class: "told" }, "Searching…");
  const halt = h("button", { class: "button secondary", type: "button", onclick: stop }, "Stop");
  results.replaceChildren(h("div", { class: "working" }, progress, told, halt));
  say("Searching");
  try {
    const tell = ({ looked, found }) => {
      progress.value = looked;
      told.textContent = `${count(looked)} entries searched, ${count(found)} found`;
    };
    const done = await ask("search", { size, query: query(), before, limit: ROWS }, tell);
    const all = [...rows, ...done.rows];
    show(log, unlocked, results, all, done);
  } catch (error) {
    results.replaceChildren(h("p", { class: "box box-bad" }, `The search failed: ${error.message}`));
  }
}

function show(log, unlocked, results, rows, { next }) {
  const size = log.checkpoint.size;
  const said = `${plural(rows.length, "entry", "entries")} found in the ${next ? `newest ${count(size - next)} of ` : ""}${count(size)} entries.`;
  say(said);
  const more = next && h("button", {
    class: "button secondary", type: "button",
    onclick: () => run(log, unlocked, results, { before: next, rows: [] }),
  }, "Find older ones");
  results.replaceChildren(...[
    h("h2", { tabindex: "-1" }, "Results"),
    h("p", {}, said, next ? ` ${count(next)} older ones have not been searched.` : ""),
    rows.length ? found(rows.slice(-ROWS), unlocked) : null,
    more || null,
  ].filter(Boolean));
  results.querySelector("h2").focus({ preventScroll: true });
}

function found(rows, unlocked) {
  const head = unlocked ? ["Entry", "When", "What happened", "Outcome", "Who, for whom", "Why, about whom"] : HEAD;
  const time = (ts) => h("time", { datetime: new Date(ts).toISOString() }, moment(ts));
  const cells = rows.map((it) => {
    const first = [link(it.index), time(it.ts), eventWords(it.ev), outcomeTag(it.out, it.al)];
    if (!unlocked) return [...first, it.of || "–"];
    const who = [it.who, it.org || it.of].filter(Boolean).join(", ");
    const why = [PURPOSES[it.purpose] ?? it.purpose, it.patient].filter(Boolean).join(", ");
    return [...first, who || "–", why || "–"];
  });
  return table("Entries found, newest first", head, cells, { class: "stack entries" });
}
