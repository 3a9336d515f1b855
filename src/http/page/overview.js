// The first view: does the log hold, do alarms stand, is the gateway well, how old are its keys.

import { equal, hex } from "./bytes.js";
import { box, facts, h, say, table, tag } from "./dom.js";
import { keep, kept, pin } from "./log.js";
import { fingerprint, parseVkey } from "./note.js";
import { ask, stop } from "./scanner.js";
import { alertWords, count, duration, moment, plural } from "./words.js";

/** Ages of keys in days beyond which the page points at them: signing keys a year, keys of records two. */
const OLD_DAYS = { signing: 366, kek: 731, own: Infinity };

export async function overview({ log, state, reload }) {
  const print = log.vkey && (await fingerprint(log.vkey));
  return [
    h("h1", {}, "Overview"),
    verdict(log),
    h("ul", { class: "cards" }, cards(state, log)),
    alarms(state),
    h("h2", {}, "The log"),
    facts(logFacts(log, print)),
    log.checkpoint && wholeCheck(log),
    keyForm(log, print, reload),
    feeds(state),
    keys(state),
    targets(state),
  ];
}

function verdict(log) {
  if (log.finding) {
    return box("bad", "The log does not hold", h("p", {}, log.finding),
      h("p", {}, "Do not rely on anything below. Keep this browser as it is, and run ", h("code", {}, "sallyport audit verify"), " on another machine."));
  }
  const before = log.before
    ? `It begins with the ${count(log.before.size)} entries that this browser saw signed on ${moment(log.before.seenMs)}.`
    : "This browser sees it for the first time: from now on it notices if entries are taken away or changed.";
  return box("good", "The signed log holds",
    h("p", {}, `The checkpoint over ${count(log.checkpoint.size)} entries is signed by the log’s key. ${before}`));
}

function cards(state, log) {
  const open = state.alerts.open_items;
  const standing = state.alerts.standing.length;
  const health = { serving: "good", limited: "warn", stopped: "bad" }[state.health.status] ?? "warn";
  const card = (number, words, kind, text) =>
    h("li", { class: "card" }, h("p", { class: "card-number" }, number), h("p", {}, words), tag(kind, text));
  return [
    card(count(log.checkpoint?.size ?? 0), "entries, signed", log.finding ? "bad" : "good", log.finding ? "does not hold" : "holds"),
    card(count(standing), standing === 1 ? "alarm stands" : "alarms stand", standing ? "bad" : "good", standing ? "look at it" : "none"),
    card(count(open), open === 1 ? "item to review" : "items to review", open ? "warn" : "good", open ? "open" : "none"),
    card(state.health.status === "serving" ? "Yes" : "No", "gateway serves everything", health, state.health.status),
  ];
}

function alarms(state) {
  const list = state.alerts.standing;
  const why = state.health.why && h("p", { class: "box box-warn" }, state.health.why);
  if (!list.length) return [h("h2", {}, "Alarms"), why, h("p", {}, "No alarm stands.")];
  const rows = list.map((it) => [tag("bad", alertWords(it.alert)), it.of, moment(it.since_ms), duration(state.now_ms - it.since_ms)]);
  return [why, table("Alarms", ["Alarm", "Concerns", "Since", "For"], rows)];
}

function logFacts(log, print) {
  if (!log.checkpoint) return [["State", "not believed"]];
  const full = kept().full;
  return [
    ["Name", h("code", {}, log.checkpoint.origin)],
    ["Entries under the checkpoint", count(log.checkpoint.size)],
    ["Root hash", h("code", {}, hex(log.checkpoint.root))],
    ["Key’s fingerprint", h("code", {}, print)],
    ["Checked in this browser", moment(kept().seenMs)],
    ["Whole log hashed in this browser", full ? `${count(full.size)} entries, ${moment(full.atMs)}` : "not yet"],
  ];
}

/** Hashes every entry again, in the worker, and holds the root that comes out against the signed one. */
function wholeCheck(log) {
  const place = h("div", {});
  const { size } = log.checkpoint;
  const button = h("button", { class: "button secondary", type: "button", onclick: run }, "Check every entry now");
  async function run() {
    const progress = h("progress", { max: size, value: 0, "aria-label": "Entries hashed" });
    const told = h("p", {}, "Hashing…");
    place.replaceChildren(h("div", { class: "working" }, progress, told, h("button", { class: "button secondary", type: "button", onclick: stop }, "Stop")));
    button.disabled = true;
    try {
      const done = await ask("root", { size }, ({ looked }) => {
        progress.value = looked;
        told.textContent = `${count(looked)} of ${count(size)} entries hashed`;
      });
      place.replaceChildren(wholeResult(log, done));
    } catch (error) {
      place.replaceChildren(box("bad", "The check could not be finished", h("p", {}, error.message)));
    }
    button.disabled = false;
  }
  return h("div", {}, button, place);
}

function wholeResult({ checkpoint }, done) {
  if (!done.isWhole) return h("p", {}, `Stopped after ${count(done.looked)} entries.`);
  if (!equal(done.root, checkpoint.root)) {
    say("The entries do not add up to the signed root");
    return h("div", { class: "loud", role: "alert" }, h("h2", {}, "The entries do NOT add up to the signed root"),
      h("p", {}, `At least one of the ${count(checkpoint.size)} entries that the gateway sends is not the one it signed. `, h("code", {}, "sallyport audit verify"), " says which."));
  }
  keep({ full: { size: checkpoint.size, atMs: Date.now() } });
  say("Every entry holds");
  return box("good", "Every entry holds", h("p", {}, `All ${count(checkpoint.size)} entries were read and hashed in this browser, and give the signed root.`));
}

/** The key is what all rests on: it is compared, or given from a file that did not come from this gateway. */
function keyForm(log, print, reload) {
  const how = kept().how === "given"
    ? "You gave this browser the log’s key yourself."
    : kept().how === "compared"
      ? "You said that the fingerprint is the one you were given."
      : "This browser took the key that the gateway stated at your first visit. Compare the fingerprint with what you were given when the gateway was founded.";
  const input = h("textarea", { id: "vkey", rows: "3", spellcheck: "false", autocomplete: "off", "aria-describedby": "vkey-hint vkey-error" });
  const error = h("p", { class: "error", id: "vkey-error", role: "alert" });
  const use = async (event) => {
    event.preventDefault();
    const vkey = await parseVkey(input.value);
    error.textContent = vkey ? "" : "This is not a log key: it has the form NAME+HASH+BASE64";
    if (!vkey) return input.focus();
    pin(vkey, "given");
    say("The key is kept. Checking the log again.");
    reload();
  };
  return h("details", { class: "details" },
    h("summary", {}, "How the log’s key is trusted"),
    h("p", {}, how),
    print && h("p", { class: "print" }, print),
    print && kept().how === "first" && h("button", { class: "button secondary", type: "button", onclick: () => {
      keep({ how: "compared" });
      reload();
    } }, "It is the fingerprint I was given"),
    h("form", { onsubmit: use },
      h("label", { for: "vkey" }, "Use another key"),
      h("p", { class: "hint", id: "vkey-hint" }, "The one line of your own log.vkey. What this browser kept under the old key is forgotten."),
      input, error,
      h("button", { class: "button secondary", type: "submit" }, "Use this key")));
}

function feeds(state) {
  const kinds = { sound: "good", gap: "bad", mismatch: "bad", silent: "bad" };
  const rows = state.feeds.map((it) => [
    it.of, tag(kinds[it.state] ?? "warn", it.state), count(it.missing),
    it.unsound_s ? duration(it.unsound_s * 1000) : "–", it.refuses_care ? "yes" : "no",
  ]);
  if (!rows.length) return [h("h2", {}, "Objection feeds"), h("p", {}, "No practice sends objections yet.")];
  return table("Objection feeds", ["Practice or list", "State", "Missing", "Not sound for", "Direct care refused"], rows);
}

function keys(state) {
  const rows = state.keys.map((it) => {
    const days = Math.floor((state.now_ms - it.created_ms) / 86400000);
    const isOld = days > (OLD_DAYS[it.kind] ?? Infinity);
    return [h("code", {}, it.key), it.serves, String(it.version), moment(it.created_ms),
      isOld ? tag("warn", plural(days, "day")) : plural(days, "day")];
  });
  return table("Keys in use", ["Key", "What depends on it", "Version", "Made", "Age"], rows);
}

function targets(state) {
  const rows = state.alerts.targets.map((it) => [
    it.target, count(it.undelivered), it.undelivered ? duration(it.oldest_s * 1000) : "–",
    it.failure ? tag("bad", it.failure) : tag("good", "delivers"),
  ]);
  if (!rows.length) {
    return [h("h2", {}, "Who is told"), h("p", {}, state.alerts.warning ?? "Nobody is told.")];
  }
  return table("Who is told", ["Target", "Not delivered", "Oldest", "State"], rows);
}
