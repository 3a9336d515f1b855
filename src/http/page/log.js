// The log as this browser believes it: a checkpoint signed by the pinned key, which extends the one kept from last time.
// What does not hold is a finding, said in words; nothing is ever shown as checked that was not.

import { base64, toBase64 } from "./bytes.js";
import * as gateway from "./gateway.js";
import { consistencyPath, inclusionPath, leafHash, provesConsistency, provesInclusion } from "./merkle.js";
import { canVerify, openCheckpoint, parseVkey } from "./note.js";
import { TILE_WIDTH, Tiles } from "./tiles.js";

const KEPT = "sallyport.log";

/** What this browser keeps of the log between visits: the key it trusts, and the last checkpoint that held. */
export function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

export function keep(more) {
  localStorage.setItem(KEPT, JSON.stringify({ ...kept(), ...more }));
}

/** Trusts this key from now on; what was kept under another one is forgotten. */
export function pin(vkey, how) {
  localStorage.setItem(KEPT, JSON.stringify({ vkey: vkey.text, how, pinnedMs: Date.now() }));
}

export class Log {
  /** Why the log is not to be believed, if it is not. */
  finding = null;
  checkpoint = null;
  tiles = null;
  #bundles = new Map();

  /** Reads the newest checkpoint and holds it against the pinned key and the kept checkpoint. */
  async refresh(stated) {
    this.finding = null;
    try {
      await this.#check(stated);
    } catch (error) {
      if (error instanceof gateway.Refused) throw error;
      this.finding = error.message;
    }
  }

  async #check(stated) {
    if (!(await canVerify())) {
      throw new Error("This browser cannot check Ed25519 signatures, so nothing here would be proven. Use a current Firefox, Safari, Chrome or Edge.");
    }
    if (!kept().vkey) pin(await parsed(stated), "first");
    const vkey = await parsed(kept().vkey);
    const isOther = vkey.text !== stated
      ? " The gateway now states another key than the one kept in this browser. If its key was handed over, sallyport audit verify follows that from the old key to the new one; enter the new key only then."
      : "";
    const note = await gateway.text("/log/checkpoint");
    const checkpoint = await openCheckpoint(note, vkey).catch((error) => {
      throw new Error(`The log’s checkpoint is not to be believed: ${error.message}.${isOther}`);
    });
    const tiles = new Tiles(checkpoint.size, gateway.file);
    await this.#extends(checkpoint, tiles);
    keep({ size: checkpoint.size, root: toBase64(checkpoint.root), note, seenMs: Date.now() });
    [this.vkey, this.checkpoint, this.tiles] = [vkey, checkpoint, tiles];
  }

  /** The kept checkpoint has to be a prefix of the new one. */
  async #extends(checkpoint, tiles) {
    const { size, root, seenMs } = kept();
    this.before = size ? { size, seenMs } : null;
    if (!size) return;
    if (size > checkpoint.size) {
      throw new Error(`Entries are gone: this browser has seen a signed log of ${size} entries, and now it has ${checkpoint.size}. It was cut back or replaced by an older copy.`);
    }
    const path = await consistencyPath(size, checkpoint.size, tiles.node);
    if (!(await provesConsistency(size, checkpoint.size, base64(root) ?? new Uint8Array(), checkpoint.root, path))) {
      throw new Error(`History was rewritten: the log of now does not begin with the ${size} entries that this browser saw signed before.`);
    }
  }

  /** The leaves of a bundle, read once; the newest bundle is read again when the log has grown. */
  async #leaves(bundle) {
    const width = this.tiles.width("entries", bundle);
    const known = this.#bundles.get(bundle);
    if (known?.width === width) return known.leaves;
    const leaves = this.tiles.bundle(bundle);
    this.#bundles.set(bundle, { width, leaves });
    if (this.#bundles.size > 64) this.#bundles.delete(this.#bundles.keys().next().value);
    leaves.catch(() => this.#bundles.delete(bundle));
    return leaves;
  }

  /** Entries from `start` to before `end`, each `{index, text, leaf}`. */
  async entries(start, end) {
    const found = [];
    for (let bundle = Math.floor(start / TILE_WIDTH); bundle * TILE_WIDTH < end; bundle += 1) {
      const leaves = await this.#leaves(bundle);
      leaves.forEach((bytes, at) => {
        const index = bundle * TILE_WIDTH + at;
        if (index >= start && index < end) found.push(read(index, bytes));
      });
    }
    return found;
  }

  /** One entry with its proof: `{entry, hash, path, holds}`. */
  async prove(index) {
    const [entry] = await this.entries(index, index + 1);
    const hash = await leafHash(entry.bytes);
    const path = await inclusionPath(index, this.checkpoint.size, this.tiles.node);
    const holds = await provesInclusion(index, this.checkpoint.size, hash, path, this.checkpoint.root);
    return { entry, hash, path, holds };
  }
}

async function parsed(text) {
  const vkey = await parseVkey(text ?? "");
  if (!vkey) throw new Error("The log’s key is not an Ed25519 key of the form NAME+HASH+BASE64.");
  return vkey;
}

/** A leaf as it stands; one that is no JSON is shown as its text and nothing else is read from it. */
export function read(index, bytes) {
  const text = new TextDecoder().decode(bytes);
  let leaf = {};
  try {
    leaf = JSON.parse(text);
  } catch {
    // What is no leaf has no members; its text is shown.
  }
  return { index, bytes, text, leaf };
}
