// The published log as its files: C2SP tlog-tiles names, entry bundles, nodes of the tree out of hash tiles.
// What is read here proves nothing yet: whoever uses it holds it against a signed root.

import { HASH_BYTES, nodeHash } from "./merkle.js";

export const TILE_WIDTH = 256;

/** `x001/x234/067`: three digits an element, all but the last behind an `x`. */
function elements(index) {
  const list = [String(index % 1000).padStart(3, "0")];
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    list.unshift(`x${String(rest % 1000).padStart(3, "0")}`);
  }
  return list.join("/");
}

/** The name of a tile; `level` is a tile level or "entries". */
export const tileName = (level, index, width) =>
  `tile/${level}/${elements(index)}${width === TILE_WIDTH ? "" : `.p/${width}`}`;

/** The leaves of a bundle, as bytes; throws if it ends in the middle of one or has fewer than `width`. */
export function leavesOf(bundle, width) {
  const leaves = [];
  let at = 0;
  while (leaves.length < width) {
    const length = bundle[at] * 256 + bundle[at + 1];
    const leaf = bundle.subarray(at + 2, at + 2 + length);
    if (!(leaf.length === length)) throw new Error("an entry bundle is cut short");
    leaves.push(leaf);
    at += 2 + length;
  }
  return leaves;
}

/** Reads a log of exactly `size` entries. `read(name)` gives a file's bytes, or null where there is none. */
export class Tiles {
  #read;
  #hashes = new Map();

  constructor(size, read) {
    this.size = size;
    this.#read = read;
  }

  /** How many places of this tile the tree has. */
  width(level, index) {
    const count = Math.floor(this.size / TILE_WIDTH ** (level === "entries" ? 0 : level));
    return Math.min(TILE_WIDTH, count - index * TILE_WIDTH);
  }

  async #file(level, index) {
    const width = this.width(level, index);
    const bytes = await this.#read(tileName(level, index, width));
    if (bytes || width === TILE_WIDTH) return bytes;
    // The log has grown over it: the full tile begins with the same places.
    return this.#read(tileName(level, index, TILE_WIDTH));
  }

  /** The leaves of a bundle. */
  async bundle(index) {
    const bytes = await this.#file("entries", index);
    if (!bytes) throw new Error(`entries ${index * TILE_WIDTH} and following are missing from the log`);
    return leavesOf(bytes, this.width("entries", index));
  }

  async #tile(level, index) {
    const name = `${level}/${index}`;
    if (!this.#hashes.has(name)) this.#hashes.set(name, this.#file(level, index));
    const bytes = await this.#hashes.get(name);
    if (!bytes || bytes.length < this.width(level, index) * HASH_BYTES) {
      throw new Error(`the tile ${tileName(level, index, this.width(level, index))} is missing from the log`);
    }
    return bytes;
  }

  /** The hash of the whole subtree at this level (0: leaves) and place. */
  node = async (level, index) => {
    const [row, above] = [Math.floor(level / 8), level % 8];
    const first = index * 2 ** above;
    const bytes = await this.#tile(row, Math.floor(first / TILE_WIDTH));
    const at = (place) => bytes.subarray(place * HASH_BYTES, (place + 1) * HASH_BYTES);
    let nodes = Array.from({ length: 2 ** above }, (_, place) => at((first % TILE_WIDTH) + place));
    while (nodes.length > 1) {
      nodes = await Promise.all(
        Array.from({ length: nodes.length / 2 }, (_, pair) => nodeHash(nodes[2 * pair], nodes[2 * pair + 1])),
      );
    }
    return nodes[0];
  };
}
