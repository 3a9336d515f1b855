// Runs the auditor page's own scripts over the vectors that the Rust tests run: node page_vectors.mjs [SHARED/vectors]
// Our frozen leaf, receipt and checkpoint; every byte of them flipped; and, where they are, the public RFC 6962 vectors.
import { webcrypto } from "node:crypto";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import assert from "node:assert/strict";

globalThis.crypto ??= webcrypto; // Node 18
const page = new URL("../../src/http/page/", import.meta.url);
const load = (name) => import(new URL(name, page));
const { base64, base64url, hex, toBase64, toBase64url, utf8 } = await load("bytes.js");
const merkle = await load("merkle.js");
const { openCheckpoint, parseProof, parseVkey } = await load("note.js");
const { fits, opensTruly } = await load("sealed.js");
const { Tiles, tileName } = await load("tiles.js");

// --- our own -------------------------------------------------------------------------------------------------------
const ours = JSON.parse(readFileSync(new URL("../vectors/ledger.json", import.meta.url)));
const vkey = await parseVkey(ours.vkey);
assert.equal(await parseVkey(ours.vkey.replace("5ac335b6", "5ac335b7")), null, "the key's own hash is checked");

async function holds({ leaf, proof }) {
  const parsed = parseProof(proof);
  const checkpoint = parsed && (await openCheckpoint(parsed.note, vkey).catch(() => null));
  if (!checkpoint) return false;
  const hash = await merkle.leafHash(utf8(leaf));
  return merkle.provesInclusion(parsed.index, checkpoint.size, hash, parsed.path, checkpoint.root);
}

assert.equal(hex(await merkle.leafHash(utf8(ours.receipt.leaf))), ours.leaf_hash);
assert(await holds(ours.receipt), "our frozen receipt");
const root = await merkle.nodeHash(await merkle.leafHash(utf8(ours.genesis)), await merkle.leafHash(utf8(ours.receipt.leaf)));
assert.equal(hex(root), ours.root);

let flipped = 0;
for (const member of ["leaf", "proof"]) {
  for (let at = 0; at < ours.receipt[member].length; at += 1) {
    const text = ours.receipt[member];
    const other = String.fromCharCode(text.charCodeAt(at) ^ 1);
    assert(!(await holds({ ...ours.receipt, [member]: text.slice(0, at) + other + text.slice(at + 1) })), `${member}, ${at}`);
    flipped += 1;
  }
}
console.log(`our frozen receipt holds, and with any of its ${flipped} letters changed it does not`);

// --- what a body says is what its leaf commits to ---------------------------------------------------------------------
const leaf = JSON.parse(ours.receipt.leaf);
const plain = JSON.parse(ours.plain);
assert(await fits(plain, leaf), "our frozen body");
assert(await opensTruly(ours.receipt.openings, leaf), "our frozen openings");
for (const group of ["actor", "context", "object", "subject"]) {
  assert(!(await fits({ ...plain, [group]: { ...plain[group], more: 1 } }, leaf)), group);
  const { [group]: opening } = ours.receipt.openings;
  const other = { ...ours.receipt.openings, [group]: { ...opening, value: { ...opening.value, more: 1 } } };
  assert(!(await opensTruly(other, leaf)), group);
}
console.log("a body that says something else than its leaf commits to is noticed");

// --- a tree out of tiles, at sizes on both sides of a tile's edge ---------------------------------------------------
const leaves = await Promise.all(Array.from({ length: 700 }, (_, at) => merkle.leafHash(utf8(String(at)))));
const whole = (start, end) =>
  merkle.rangeHash(start, end, async (level, index) => {
    if (level === 0) return leaves[index];
    const [half, from] = [2 ** (level - 1), index * 2 ** level];
    return merkle.nodeHash(await whole(from, from + half), await whole(from + half, from + 2 * half));
  });
async function file(name, size) {
  const [, level, rest] = /^tile\/(\d+)\/(.*)$/.exec(name);
  const index = Number(rest.split(".p/")[0].replaceAll(/[x/]/g, ""));
  const span = 256 ** Number(level);
  const width = Math.min(256, Math.floor(size / span) - index * 256);
  assert.equal(name, tileName(level, index, width));
  const hashes = Array.from({ length: width }, (_, at) => whole((index * 256 + at) * span, (index * 256 + at + 1) * span));
  return Buffer.concat(await Promise.all(hashes));
}
for (const size of [1, 2, 3, 255, 256, 257, 511, 512, 600, 700]) {
  const tiles = new Tiles(size, (name) => file(name, size));
  const top = await whole(0, size);
  for (const index of new Set([0, 1, 254, 255, 256, 300, 511, 512, size - 1].filter((at) => at < size))) {
    const path = await merkle.inclusionPath(index, size, tiles.node);
    assert(await merkle.provesInclusion(index, size, leaves[index], path, top), `${index} of ${size}`);
    assert(!(await merkle.provesInclusion(index, size, leaves[(index + 1) % 700], path, top)), `another at ${index} of ${size}`);
    const old = await merkle.consistencyPath(index + 1, size, tiles.node);
    const before = await whole(0, index + 1);
    assert(await merkle.provesConsistency(index + 1, size, before, top, old), `${index + 1} to ${size}`);
    assert(!(await merkle.provesConsistency(index + 1, size, leaves[699], top, old)), `forged ${index + 1} to ${size}`);
  }
}
for (const [index, name] of [[0, "000"], [67, "067"], [1000, "x001/000"], [1234067, "x001/x234/067"]]) {
  assert.equal(tileName("entries", index, 256), `tile/entries/${name}`);
}
console.log("inclusion and consistency paths out of tiles prove, forged ones do not");

// --- texts of bytes ---------------------------------------------------------------------------------------------------
for (const bytes of [[], [0], [255, 254], [1, 2, 3], [...Array(300).keys()]]) {
  const is = Uint8Array.from(bytes);
  assert.deepEqual(base64(toBase64(is)), is);
  assert.deepEqual(base64url(toBase64url(is)), is);
}
for (const text of ["A", "AA", "AB==", "A A=", "AA=A", "====", "_-=="]) assert.equal(base64(text), null, text);

// --- the public ones ---------------------------------------------------------------------------------------------------
const shared = new URL(`${process.argv[2] ?? "../shared/vectors"}/merkle/`, `file://${process.cwd()}/`);
if (!existsSync(shared)) {
  console.log(`SKIPPED: no public vectors at ${shared.pathname}`);
} else {
  const hash = (text) => base64(text ?? "") ?? new Uint8Array();
  let count = 0;
  for (const kind of ["inclusion", "consistency"]) {
    for (const path of readdirSync(new URL(kind, shared), { recursive: true }).filter((name) => name.endsWith(".json"))) {
      const case_ = JSON.parse(readFileSync(new URL(`${kind}/${path}`, shared)));
      const proof = (case_.proof ?? []).map(hash);
      const said =
        kind === "inclusion"
          ? await merkle.provesInclusion(case_.leafIdx, case_.treeSize, hash(case_.leafHash), proof, hash(case_.root))
          : await merkle.provesConsistency(case_.size1, case_.size2, hash(case_.root1), hash(case_.root2), proof);
      // As in Rust: the empty tree is a prefix of every tree by a rule, not by a proof, and a dummy root is no hash.
      const isOutside = kind === "consistency" && (case_.size1 === 0 || [case_.root1, case_.root2].some((it) => hash(it).length !== 32));
      if (isOutside) assert(!said, path);
      else assert.equal(said, !case_.wantErr, `${kind}/${path}: ${case_.desc}`);
      count += 1;
    }
  }
  assert(count >= 180, `${count} public vectors`);
  console.log(`${count} public vectors say what they must`);
}
