// Signed checkpoints: C2SP signed-note, tlog-checkpoint and tlog-proof, Ed25519 by WebCrypto. Pure; Node runs it too.
// A note that does not open means nothing: no field of it is given out.

import { base64, concat, hex, utf8 } from "./bytes.js";
import { HASH_BYTES, sha256 } from "./merkle.js";

const ED25519 = 1;
const NUMBER = /^(0|[1-9][0-9]{0,15})$/;

/** A log's key from its text `NAME+HASH+BASE64`; null if it is not exactly one. */
export async function parseVkey(text) {
  const found = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text.trim());
  const key = found && base64(found[3]);
  if (!key || key.length !== 33 || key[0] !== ED25519) return null;
  const id = (await sha256(concat(utf8(`${found[1]}\n`), key))).subarray(0, 4);
  if (hex(id) !== found[2]) return null;
  return { text: text.trim(), name: found[1], id, public: key.subarray(1) };
}

/** What two people compare: SHA-256 of the key's text, in groups of four. */
export async function fingerprint(vkey) {
  return hex(await sha256(utf8(vkey.text))).match(/.{4}/g).join(" ");
}

/** Whether this browser can check the signature at all. */
export async function canVerify() {
  try {
    await crypto.subtle.importKey("raw", new Uint8Array(32), "Ed25519", false, ["verify"]);
    return true;
  } catch {
    return false;
  }
}

async function verifies(vkey, text, signature) {
  const key = await crypto.subtle.importKey("raw", vkey.public, "Ed25519", false, ["verify"]);
  return crypto.subtle.verify("Ed25519", key, signature, utf8(text));
}

/** `{origin, size, root}` of a note that this key signed; otherwise throws, in words. */
export async function openCheckpoint(note, vkey) {
  const end = note.lastIndexOf("\n\n");
  if (end < 0 || note.length > 65536) throw new Error("it is not a signed note");
  const text = note.slice(0, end + 1);
  const signatures = note.slice(end + 2).split("\n");
  if (signatures.pop() !== "") throw new Error("it is not a signed note");
  let isSigned = false;
  for (const line of signatures) {
    const [dash, name, encoded, ...more] = line.split(" ");
    const bytes = encoded && base64(encoded);
    if (dash !== "\u2014" || !name || !bytes || bytes.length < 5 || more.length) throw new Error("it is not a signed note");
    if (name !== vkey.name || hex(bytes.subarray(0, 4)) !== hex(vkey.id)) continue;
    if (!(await verifies(vkey, text, bytes.subarray(4)))) throw new Error("the signature of this log's key is wrong");
    isSigned = true;
  }
  if (!isSigned) throw new Error("it is not signed by this log's key");
  const [origin, size, encodedRoot, last] = text.split("\n");
  const root = encodedRoot && base64(encodedRoot);
  if (last === undefined || !NUMBER.test(size) || !root || root.length !== HASH_BYTES) {
    throw new Error("it does not say size and root");
  }
  if (origin !== vkey.name) throw new Error("it is a checkpoint of another log");
  return { origin, size: Number(size), root, note };
}

/** `{index, path, note}` of a C2SP tlog-proof text; null if it is not one. */
export function parseProof(text) {
  const cut = text.indexOf("\n\n");
  const lines = text.slice(0, Math.max(cut, 0)).split("\n");
  if (lines.shift() !== "c2sp.org/tlog-proof@v1") return null;
  if (lines[0]?.startsWith("extra ")) lines.shift();
  const index = /^index (.*)$/.exec(lines.shift() ?? "")?.[1];
  const path = lines.map(base64);
  if (!NUMBER.test(index ?? "") || path.some((hash) => hash?.length !== HASH_BYTES)) return null;
  return { index: Number(index), path, note: text.slice(cut + 2) };
}
