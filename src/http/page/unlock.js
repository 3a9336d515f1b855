// Giving the page the audit keys that were disclosed: two files of the auditor's own, read here and sent nowhere.

import { h, say } from "./dom.js";
import * as gateway from "./gateway.js";
import { ask } from "./scanner.js";
import { Opener, bodiesOf, disclosedKeys } from "./sealed.js";
import { TILE_WIDTH } from "./tiles.js";
import { plural } from "./words.js";

/** What is unlocked in this page, until it is closed. */
export class Unlocked {
  #opener;

  static async with(disclosed, jwk) {
    const { keys: published } = await gateway.json("/.well-known/jwks.json");
    const keys = await disclosedKeys(disclosed, jwk, published);
    const unlocked = new Unlocked();
    unlocked.#opener = await Opener.of(keys);
    unlocked.count = keys.length;
    await ask("keys", { keys });
    return unlocked;
  }

  /** What an entry's body says: `{plain}`, `{altered}`, or null where no key fits. Asking for it is an entry. */
  async body(index, leaf) {
    const bundle = Math.floor(index / TILE_WIDTH);
    const bodies = bodiesOf((await gateway.file(`bodies/${bundle}`)) ?? new Uint8Array());
    return this.#opener.open(leaf, bodies[index % TILE_WIDTH] ?? new Uint8Array());
  }
}

/** The form; `set` takes what was unlocked. */
export function unlocking(unlocked, reload) {
  if (unlocked) {
    return h("p", { class: "hint" }, `${plural(unlocked.count, "audit key")} opened in this page. They are gone when you close or reload it.`);
  }
  const file = (id, label) => [h("label", { for: id }, label), h("input", { type: "file", id, accept: ".json,.jwk", required: true })];
  const error = h("p", { class: "error", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    const read = async (id) => JSON.parse(await event.target.querySelector(`#${id}`).files[0].text());
    try {
      const opened = await Unlocked.with(await read("disclosed"), await read("open-jwk"));
      say(`${plural(opened.count, "audit key")} opened`);
      reload(opened);
    } catch (problem) {
      error.textContent = problem instanceof SyntaxError ? "One of the files is not JSON" : problem.message;
    }
  };
  return h("details", { class: "details" },
    h("summary", {}, "Open what is sealed"),
    h("p", {}, "Who, whom and why are sealed under each patient’s audit key. With the keys that two administrators disclosed to you, entries can be searched by them. The files are read in this page and sent nowhere."),
    h("form", { class: "files", onsubmit: submit },
      file("disclosed", "The disclosure (disclosed.json)"),
      file("open-jwk", "Your own private key (open.jwk)"),
      error, h("button", { class: "button secondary", type: "submit" }, "Open")));
}
