// The privacy officer's worklist: what has to be looked at by a person, one item in full, and how it is closed.

import { box, facts, field, h, say, table, tag } from "./dom.js";
import * as gateway from "./gateway.js";
import { leafHash, provesInclusion } from "./merkle.js";
import { openCheckpoint, parseProof } from "./note.js";
import { opensTruly } from "./sealed.js";
import { utf8 } from "./bytes.js";
import { alertWords, count, eventWords, markWords, moment } from "./words.js";

const FINDINGS = {
  appropriate: ["It was in order", "There was a good reason for the access."],
  inappropriate: ["It was not in order", "There was none; what follows happens elsewhere."],
  mistake: ["A rule or fact was wrong", "The access was made under a rule or fact that was wrong."],
  noted: ["Seen", "It is not about an access, such as an alarm."],
};
const NOTE_CHARS = 500;

/** `#/reviews/STATE/AFTER`, or `#/reviews/item/ENTRY` */
export async function reviews({ log, state, args, go }) {
  if (state.role !== "privacy-officer") {
    return [h("h1", {}, "Reviews"), box("info", "For privacy officers",
      h("p", {}, "Emergencies and other accesses that a person has to look at are listed for the privacy officer alone. As an auditor you find them, and how each was closed, among the entries: search for emergencies and for reviews closed."))];
  }
  return args[0] === "item" ? item(log, args[1], go) : worklist(args);
}

async function worklist([which, after]) {
  const all = which === "all";
  const from = /^[0-9]{1,15}$/.test(after ?? "") ? `&after=${after}` : "";
  const { items, after: last } = await gateway.json(`/reviews?state=${all ? "all" : "open"}&limit=50${from}`);
  const rows = items.map((it) => [
    h("a", { href: `#/reviews/item/${it.entry}` }, count(it.entry)),
    moment(it.at_ms), alertWords(it.alert), it.of || "–", it.marks.map(markWords).join("; ") || "–",
    it.closed_by === null ? tag("warn", "open") : tag("good", "closed"),
  ]);
  say(`${rows.length} items`);
  return [
    h("h1", {}, "Reviews"),
    h("p", { class: "lede" }, "What a person has to look at, oldest first. Opening an item is an entry of the log, and so is closing it."),
    h("nav", { class: "pager", "aria-label": "Which items" },
      h("a", { href: "#/reviews/open", "aria-current": all ? null : "true" }, "Open"),
      h("a", { href: "#/reviews/all", "aria-current": all ? "true" : null }, "All")),
    rows.length
      ? table(all ? "All items" : "Open items", ["Item", "When", "What", "Organisation", "Why it is listed", "State"], rows)
      : h("p", {}, all ? "There is no item." : "Nothing is open."),
    items.length === 50 && h("p", {}, h("a", { href: `#/reviews/${all ? "all" : "open"}/${last}` }, "Next items")),
  ];
}

async function item(log, entry, go) {
  const looked = /^[0-9]{1,15}$/.test(entry ?? "") ? await gateway.json(`/reviews/${entry}`) : null;
  if (!looked) return [h("h1", {}, "No such item"), h("p", {}, h("a", { href: "#/reviews/open" }, "Back to the list"))];
  const { item: it, access, explanation } = looked;
  return [
    h("h1", {}, `Item ${count(it.entry)}: ${alertWords(it.alert).toLowerCase()}`),
    h("p", { class: "lede" }, it.says),
    access && (await proven(log, access)),
    access && facts([
      ["Who", access.who, access.person?.name ? h("p", { class: "sub" }, `${access.person.name} (${access.person.id})`) : null],
      ["Organisation", `${access.organisation.name} (${access.organisation.ods})`],
      ["Patient", h("span", { class: "nhs" }, grouped(access.patient))],
      ["What", eventWords(eventOf(access))],
      ["About", access.about || "–"],
      ["Why", access.why],
      access.reason && ["Reason given", access.reason],
      ["When", moment(access.at_ms)],
      ["Outcome", tag(access.outcome === "permitted" ? "good" : "bad", access.outcome)],
      ["Why it is listed", it.marks.map(markWords).join("; ") || "–"],
      ["Explanation", explained(explanation)],
      ["Rule", access.rule],
      ["Entry", h("a", { href: `#/entry/${it.entry}` }, count(it.entry))],
    ]),
    !access && facts([["Concerns", it.of], ["When", moment(it.at_ms)], ["Entry", h("a", { href: `#/entry/${it.entry}` }, count(it.entry))]]),
    it.closed_by === null ? closing(it.entry, Boolean(access), go) : box("info", "Closed", h("p", {}, "By entry ", h("a", { href: `#/entry/${it.closed_by}` }, count(it.closed_by)), ".")),
    h("p", {}, h("a", { href: "#/reviews/open" }, "Back to the list")),
  ];
}

/** The event's name in the leaf: the gateway's own words for it speak to the patient. */
function eventOf({ receipt, what }) {
  try {
    return JSON.parse(receipt.leaf).ev;
  } catch {
    return what;
  }
}

const grouped = (nhs) => nhs.replace(/^(\d{3})(\d{3})(\d{4})$/, "$1 $2 $3");

function explained(explanation) {
  if (!explanation) return "nothing to explain";
  if (explanation.found === null) return [tag("warn", "cannot be said"), " the statements about relationships are unknown now"];
  if (!explanation.found) return [tag("bad", "none found"), " nobody but the asker states a relationship within a week of it"];
  return [tag("good", "found"), ` ${explanation.type}, ${explanation.reference}`];
}

/** What the gateway says of the access is what the entry commits to, and the entry stands in the log: checked here. */
async function proven(log, access) {
  try {
    const { leaf, proof, openings } = access.receipt;
    const parsed = parseProof(proof);
    const checkpoint = await openCheckpoint(parsed.note, log.vkey);
    const hash = await leafHash(utf8(leaf));
    const isIn = parsed.index === access.entry && (await provesInclusion(parsed.index, checkpoint.size, hash, parsed.path, checkpoint.root));
    const said = openings;
    const isSame = said.subject.value.nhs === access.patient && said.actor.value.organisation === access.organisation.ods
      && (said.actor.value.practitioner ?? "") === access.person.id && (said.context.value.reason ?? "") === (access.reason ?? "");
    if (!isIn || !isSame || !(await opensTruly(openings, JSON.parse(leaf)))) throw new Error("it does not hold");
    return box("good", "Proven in this browser", h("p", {}, "The entry stands in the signed log, and who, whom and why below are what it commits to."));
  } catch (error) {
    return h("div", { class: "loud", role: "alert" }, h("h2", {}, "This item is NOT proven"),
      h("p", {}, `What the gateway says of this access is not what its entry commits to: ${error.message}. Do not rely on it, and tell the auditor.`));
  }
}

function closing(entry, isAccess, go) {
  const choices = Object.entries(FINDINGS).map(([code, [words, hint]]) => {
    const id = `finding-${code}`;
    return h("div", { class: "radio" },
      h("input", { type: "radio", name: "finding", id, value: code, required: true, "aria-describedby": `${id}-hint` }),
      h("div", {}, h("label", { for: id }, words), h("p", { class: "hint", id: `${id}-hint` }, hint)));
  });
  const note = h("textarea", { name: "note", rows: "4", maxlength: NOTE_CHARS, required: isAccess });
  const error = h("p", { class: "error", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const button = event.target.querySelector("button");
    button.disabled = true;
    try {
      const text = form.get("note").replaceAll(/\s+/g, " ").trim();
      const done = await gateway.post(`/reviews/${entry}`, { finding: form.get("finding"), note: text });
      if (!done) throw new Error("There is no such item any more.");
      say(`Item ${entry} is closed by entry ${done.closed_by}`);
      go("#/reviews/open");
    } catch (problem) {
      error.textContent = problem.message;
      button.disabled = false;
    }
  };
  return h("form", { class: "closing", onsubmit: submit },
    h("fieldset", {}, h("legend", {}, h("h2", {}, "What did you find?")), choices),
    field("Explanation", note, `At most ${NOTE_CHARS} characters. It is sealed like the access itself; the patient is not shown it.`),
    error, h("button", { class: "button", type: "submit" }, "Close this item"));
}
