// The tree of RFC 6962 §2.1 and its proofs, with SHA-256 by WebCrypto. Pure: no network, no page; Node runs it too.
// Sizes and places are whole numbers below 2^53, so nothing here uses 32-bit operators.

import { concat, equal } from "./bytes.js";

export const HASH_BYTES = 32;

export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

export const leafHash = (leaf) => sha256(concat(Uint8Array.of(0), leaf));

export const nodeHash = (left, right) => sha256(concat(Uint8Array.of(1), left, right));

const half = (number) => Math.floor(number / 2);
const isOdd = (number) => number % 2 === 1;
const isCount = (number) => Number.isSafeInteger(number) && number >= 0;
const areHashes = (list) => list.every((hash) => hash instanceof Uint8Array && hash.length === HASH_BYTES);

/** Whether the path leads from this leaf hash, at this place, to the root over `size` leaves (RFC 9162 §2.1.3.2). */
export async function provesInclusion(index, size, leaf, path, root) {
  if (!isCount(index) || !isCount(size) || index >= size || !areHashes([leaf, root, ...path])) return false;
  let [at, last, hash] = [index, size - 1, leaf];
  for (const sibling of path) {
    if (last === 0) return false;
    if (isOdd(at) || at === last) {
      hash = await nodeHash(sibling, hash);
      while (!isOdd(at) && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      hash = await nodeHash(hash, sibling);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && equal(hash, root);
}

/** Whether the tree of `size` leaves begins with the tree of `oldSize` leaves (RFC 9162 §2.1.4.2). */
export async function provesConsistency(oldSize, size, oldRoot, root, path) {
  if (!isCount(oldSize) || !isCount(size) || oldSize < 1 || oldSize > size) return false;
  if (!areHashes([oldRoot, root, ...path])) return false;
  if (oldSize === size) return path.length === 0 && equal(oldRoot, root);
  const isPower = Number.isInteger(Math.log2(oldSize));
  const steps = isPower ? [oldRoot, ...path] : [...path];
  if (steps.length === 0) return false;
  let [at, last] = [oldSize - 1, size - 1];
  while (isOdd(at)) [at, last] = [half(at), half(last)];
  let [oldHash, hash] = [steps[0], steps[0]];
  for (const step of steps.slice(1)) {
    if (last === 0) return false;
    if (isOdd(at) || at === last) {
      oldHash = await nodeHash(step, oldHash);
      hash = await nodeHash(step, hash);
      while (!isOdd(at) && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      hash = await nodeHash(hash, step);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && equal(oldHash, oldRoot) && equal(hash, root);
}

/** The largest power of two below `count`. */
export function split(count) {
  let power = 1;
  while (power * 2 < count) power *= 2;
  return power;
}

/** The hash over the leaves from `start` to `end`, of whole subtrees that `node(level, index)` gives. */
export async function rangeHash(start, end, node) {
  const count = end - start;
  const level = Math.log2(count);
  if (Number.isInteger(level) && start % count === 0) return node(level, start / count);
  const middle = start + split(count);
  const [left, right] = await Promise.all([rangeHash(start, middle, node), rangeHash(middle, end, node)]);
  return nodeHash(left, right);
}

/** The inclusion path of a leaf in a tree of `size`, the deepest hash first (RFC 6962 §2.1.1). */
export async function inclusionPath(index, size, node) {
  const path = [];
  let [start, end] = [0, size];
  while (end - start > 1) {
    const middle = start + split(end - start);
    if (index < middle) {
      path.push(rangeHash(middle, end, node));
      end = middle;
    } else {
      path.push(rangeHash(start, middle, node));
      start = middle;
    }
  }
  return Promise.all(path.reverse());
}

/** The consistency path from a tree of `oldSize` to one of `size` (RFC 6962 §2.1.2). */
export async function consistencyPath(oldSize, size, node) {
  const path = [];
  let [start, end, isWhole] = [0, size, true];
  while (oldSize !== end) {
    const middle = start + split(end - start);
    if (oldSize <= middle) {
      path.push(rangeHash(middle, end, node));
      end = middle;
    } else {
      path.push(rangeHash(start, middle, node));
      [start, isWhole] = [middle, false];
    }
  }
  if (!isWhole) path.push(rangeHash(start, end, node));
  return Promise.all(path.reverse());
}
