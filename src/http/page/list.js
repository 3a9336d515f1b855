// The entries, newest first, fifty at a time: however long the log is, no more of it is ever in the page.

import { h, say, table, tag } from "./dom.js";
import { alertWords, count, eventWords, moment, outcomeWords } from "./words.js";

export const ROWS = 50;

export const link = (index) => h("a", { href: `#/entry/${index}` }, count(index));

/** What an entry's leaf concerns, where that stands in clear. */
export const concerns = (leaf) => leaf.of ?? leaf.facts?.owner ?? leaf.client ?? "";

export function outcomeTag(outcome, alert) {
  const kind = { permit: "good", refuse: "bad" }[outcome];
  return [
    kind && tag(kind, outcomeWords(outcome)),
    alert && " ",
    alert && tag("warn", alertWords(alert)),
    !kind && !alert && "–",
  ];
}

export const HEAD = ["Entry", "When", "What happened", "Outcome", "Concerns"];

export const row = ({ index, leaf }) => [
  link(index), h("time", { datetime: new Date(leaf.ts).toISOString() }, moment(leaf.ts)),
  eventWords(leaf.ev), outcomeTag(leaf.out, leaf.al), concerns(leaf) || "–",
];

/** `#/log/BEFORE`: the fifty entries before that one. */
export async function list({ log, args, go }) {
  const size = log.checkpoint.size;
  const end = Math.min(size, Math.max(1, Number.parseInt(args[0], 10) || size));
  const start = Math.max(0, end - ROWS);
  const entries = (await log.entries(start, end)).reverse();
  say(`Entries ${start} to ${end - 1} of ${size}`);
  return [
    h("h1", {}, "Entries"),
    h("p", { class: "lede" }, `${count(size)} entries. Who, whom and why are sealed; here is what stands in clear.`),
    jump(size, go),
    pager(start, end, size, "above"),
    table(`Entries ${count(start)} to ${count(end - 1)}, newest first`, HEAD, entries.map(row), { class: "stack entries" }),
    pager(start, end, size, "below"),
  ];
}

function jump(size, go) {
  const input = h("input", { id: "jump", inputmode: "numeric", size: "10", autocomplete: "off" });
  const error = h("p", { class: "error", role: "alert" });
  const submit = (event) => {
    event.preventDefault();
    const index = /^[0-9]{1,15}$/.test(input.value.trim().replaceAll(",", "")) ? Number(input.value.trim().replaceAll(",", "")) : NaN;
    error.textContent = index < size ? "" : `Enter a number from 0 to ${count(size - 1)}`;
    if (index < size) go(`#/entry/${index}`);
    else input.focus();
  };
  return h("form", { class: "inline", onsubmit: submit },
    h("label", { for: "jump" }, "Open entry number"), input,
    h("button", { class: "button secondary", type: "submit" }, "Open"), error);
}

function pager(start, end, size, place) {
  const to = (before, words, isThere) =>
    isThere ? h("a", { href: `#/log/${before}` }, words) : h("span", { class: "off" }, words);
  return h("nav", { class: "pager", "aria-label": `Pages, ${place} the entries` },
    to(size, "Newest", end < size),
    to(Math.min(size, end + ROWS), "Newer", end < size),
    to(start, "Older", start > 0),
    to(ROWS, "Oldest", start > 0));
}
