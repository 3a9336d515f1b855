// One entry, and the proof that it stands in the log: hashed and followed to the signed root in this browser, each time.

import { hex } from "./bytes.js";
import { box, facts, h, say } from "./dom.js";
import { concerns, outcomeTag } from "./list.js";
import { count, eventWords, moment, plural } from "./words.js";

/** `#/entry/INDEX` */
export async function entry({ log, args, unlocked }) {
  const index = /^[0-9]{1,15}$/.test(args[0] ?? "") ? Number(args[0]) : NaN;
  if (!(index < log.checkpoint.size)) {
    return [h("h1", {}, "No such entry"), h("p", {}, `The checkpoint covers entries 0 to ${count(log.checkpoint.size - 1)}.`)];
  }
  const proven = await log.prove(index);
  const { leaf } = proven.entry;
  const body = unlocked && leaf.b && (await unlocked.body(index, leaf));
  say(proven.holds ? "The proof holds" : "The proof does not hold");
  return [
    h("h1", {}, `Entry ${count(index)}`),
    proof(index, log, proven),
    facts([
      ["What happened", eventWords(leaf.ev), " ", h("code", {}, leaf.ev ?? "")],
      ["When", moment(leaf.ts), h("br"), h("code", {}, Number.isFinite(leaf.ts) ? new Date(leaf.ts).toISOString() : "")],
      ["Outcome", outcomeTag(leaf.out, leaf.al)],
      concerns(leaf) && ["Concerns", concerns(leaf)],
      leaf.gw && ["Recorded by", leaf.gw],
      leaf.pol && ["Rules that decided", h("code", {}, leaf.pol)],
      leaf.tag && ["About a person", "yes; who, whom and why stand in its body, sealed under that patient’s audit key"],
    ]),
    unlocked && leaf.b && sealed(body),
    h("details", { class: "details" }, h("summary", {}, "The entry to the letter"), h("pre", { tabindex: "0" }, pretty(proven.entry.text))),
    steps(index, log, proven),
    h("nav", { class: "pager", "aria-label": "Neighbouring entries" },
      index + 1 < log.checkpoint.size && h("a", { href: `#/entry/${index + 1}` }, "Next entry"),
      index > 0 && h("a", { href: `#/entry/${index - 1}` }, "Entry before"),
      h("a", { href: `#/log/${Math.min(log.checkpoint.size, index + 25)}` }, "Entries around it")),
  ];
}

export function proof(index, log, { holds, path }) {
  if (!holds) {
    return h("div", { class: "loud", role: "alert" },
      h("h2", {}, "This entry is NOT proven"),
      h("p", {}, `What the gateway sent as entry ${count(index)} does not lead to the root it signed over ${count(log.checkpoint.size)} entries. Either the entry or the tree was changed.`),
      h("p", {}, "Do not rely on what is shown below. Note the entry’s number and the time, keep this browser as it is, and run ", h("code", {}, "sallyport audit verify"), " on another machine."));
  }
  return box("good", "Proven in this browser",
    h("p", {}, `This is entry ${count(index)} of the log: ${plural(path.length, "hash", "hashes")} lead from it to the root over ${count(log.checkpoint.size)} entries that the log’s key signed.`));
}

const plainly = (value) =>
  typeof value === "string" ? value : Array.isArray(value) ? value.map(plainly).join(", ") : JSON.stringify(value);

/** What the body says, which is shown only if it is the one that the entry commits to. */
function sealed(body) {
  if (!body) return h("p", { class: "box box-info" }, "None of the keys disclosed to you opens this entry.");
  if (body.altered) {
    return h("div", { class: "loud", role: "alert" }, h("h2", {}, "The body was changed"),
      h("p", {}, "One of your keys fits this entry, and what the gateway sent as its body is not what the entry commits to."));
  }
  const { actor, context, object, subject, name, detail } = body.plain;
  const words = (group) => Object.entries(group ?? {}).map(([member, value]) =>
    h("p", { class: "sub" }, `${member}: `, member === "certificate" ? h("code", {}, value) : h("strong", {}, plainly(value))));
  return [h("h2", {}, "What was sealed"), facts([
    ["Who", name && h("p", { class: "sub" }, h("strong", {}, name)), words(actor)],
    ["About whom", words(subject)],
    ["What", words(object), detail && words({ records: detail.join(", ") })],
    ["Why and how", words(context)],
  ])];
}

function steps(index, log, { hash, path }) {
  const code = (bytes) => h("code", {}, hex(bytes));
  return h("details", { class: "details" }, h("summary", {}, "The proof, step by step"),
    h("ol", { class: "steps" },
      h("li", {}, "SHA-256 of 0x00 and the entry: ", code(hash)),
      path.map((step) => h("li", {}, "with ", code(step))),
      h("li", {}, "gives the signed root: ", code(log.checkpoint.root))),
    h("p", {}, "RFC 6962 §2.1.1. The checkpoint as it is signed:"),
    h("pre", { tabindex: "0" }, log.checkpoint.note));
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
