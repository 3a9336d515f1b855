// The worker that goes through the log, newest first or whole: what it read of full bundles it keeps as a few numbers an
// entry, so that a million entries stay small and are read once. What it finds is shown; only what is proven is believed.

import * as gateway from "./gateway.js";
import { leafHash, nodeHash } from "./merkle.js";
import { Opener, bodiesOf } from "./sealed.js";
import { TILE_WIDTH, Tiles } from "./tiles.js";

/** Bundles that are asked for at once. */
const WAVE = 16;
const COLUMNS = ["ev", "out", "al", "of", "who", "org", "purpose", "patient"];

const decoder = new TextDecoder();
const words = [""];
const numbers = new Map([["", 0]]);
const known = new Map();
let opener = null;
let stopped = 0;

function number(word) {
  if (!numbers.has(word)) numbers.set(word, words.push(word) - 1);
  return numbers.get(word);
}

const concerns = (leaf) => leaf.of ?? leaf.facts?.owner ?? leaf.client ?? "";

async function columns(tiles, bundle) {
  const width = tiles.width("entries", bundle);
  if (known.has(bundle)) return known.get(bundle);
  const sealed = opener && gateway.file(`bodies/${bundle}`);
  const leaves = await tiles.bundle(bundle);
  const bodies = opener ? bodiesOf((await sealed) ?? new Uint8Array()) : [];
  const made = { width, ts: new Float64Array(width) };
  for (const name of COLUMNS) made[name] = new Uint32Array(width);
  for (const [at, bytes] of leaves.entries()) {
    const leaf = parsed(bytes);
    const said = opener && bodies[at]?.length ? (await opener.open(leaf, bodies[at]))?.plain : null;
    made.ts[at] = leaf.ts ?? 0;
    const row = {
      ev: leaf.ev, out: leaf.out, al: leaf.al, of: concerns(leaf), who: said?.actor?.practitioner,
      org: said?.actor?.organisation, purpose: said?.context?.purpose, patient: said?.subject?.nhs,
    };
    for (const name of COLUMNS) made[name][at] = number(String(row[name] ?? ""));
  }
  if (width === TILE_WIDTH) known.set(bundle, made);
  return made;
}

function parsed(bytes) {
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch {
    return {};
  }
}

/** Bundles from `first` on, in the order that `step` says, a wave ahead; ends when `visit` says true or it is stopped. */
async function walk(tiles, first, step, visit) {
  const mine = stopped;
  const last = Math.ceil(tiles.size / TILE_WIDTH) - 1;
  const isInside = (bundle) => bundle >= 0 && bundle <= last;
  const wave = [];
  let next = first;
  for (let bundle = first; isInside(bundle); bundle += step) {
    while (wave.length < WAVE && isInside(next)) {
      const asked = visit.read(next);
      asked.catch(() => {});
      wave.push(asked);
      next += step;
    }
    if (await visit(bundle, await wave.shift())) return true;
    if (mine !== stopped) return false;
  }
  return true;
}

const visiting = (read, visit) => Object.assign(visit, { read });

/** The first bundle whose first entry is at or after this time; bundles are in order of time. */
async function bundleAt(tiles, ms) {
  let [low, high] = [0, Math.ceil(tiles.size / TILE_WIDTH)];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if ((await columns(tiles, middle)).ts[0] < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Whether entries of one bundle fit, place by place; what is not asked for fits. */
function fitting(query, row) {
  const [since, until] = [query.since ?? -Infinity, query.until ?? Infinity];
  const wanted = (name) => query[name] && new Set(query[name].map((word) => numbers.get(word)));
  const of = wanted("of");
  const rest = ["ev", "out", "al", "who", "purpose", "patient"].map((name) => [row[name], wanted(name)]).filter(([, set]) => set);
  return (at) =>
    row.ts[at] >= since && row.ts[at] < until &&
    (!of || of.has(row.of[at]) || of.has(row.org[at])) &&
    rest.every(([column, set]) => set.has(column[at]));
}

async function search(tiles, { query, before, limit }, tell) {
  const from = query.until ? Math.min(before, (await bundleAt(tiles, query.until)) * TILE_WIDTH) : before;
  const rows = [];
  let next = Math.min(from, tiles.size);
  const read = (bundle) => columns(tiles, bundle);
  const first = Math.ceil(next / TILE_WIDTH) - 1;
  const whole = await walk(tiles, first, -1, visiting(read, (bundle, row) => {
    const fits = fitting(query, row);
    let at = Math.min(row.width, next - bundle * TILE_WIDTH) - 1;
    for (; at >= 0 && rows.length < limit; at -= 1) {
      if (fits(at)) rows.push(rowOf(bundle * TILE_WIDTH + at, row, at));
    }
    next = bundle * TILE_WIDTH + at + 1;
    tell({ looked: from - next, found: rows.length });
    return rows.length >= limit || (query.since && row.ts[0] < query.since);
  }));
  const isDone = next === 0 || (whole && rows.length < limit);
  return { rows, next: isDone ? 0 : next, from };
}

function rowOf(index, row, at) {
  const found = { index, ts: row.ts[at] };
  for (const name of COLUMNS) found[name] = words[row[name][at]];
  return found;
}

/** Releases, refusals and emergencies in equal steps of time, from `since` on. */
async function chart(tiles, { since, steps, untilMs }, tell) {
  const last = Math.ceil(tiles.size / TILE_WIDTH) - 1;
  const start = since ?? (await columns(tiles, 0)).ts[0];
  const step = Math.max(1, Math.ceil((untilMs - start + 1) / steps));
  const counts = { releases: Array(steps).fill(0), refusals: Array(steps).fill(0), emergencies: Array(steps).fill(0) };
  let looked = 0;
  const read = (bundle) => columns(tiles, bundle);
  const done = await walk(tiles, last, -1, visiting(read, (_bundle, row) => {
    for (let at = 0; at < row.width; at += 1) {
      const place = Math.floor((row.ts[at] - start) / step);
      if (place < 0 || place >= steps) continue;
      if (words[row.ev[at]] === "record.release") counts.releases[place] += 1;
      if (words[row.out[at]] === "refuse") counts.refusals[place] += 1;
      if (words[row.al[at]] === "break-glass") counts.emergencies[place] += 1;
    }
    looked += row.width;
    tell({ looked });
    return row.ts[0] < start;
  }));
  return { start, step, counts, looked, isWhole: done };
}

/** Hashes every entry again and gives the root that comes out. */
async function root(tiles, _asked, tell) {
  const stack = [];
  const read = async (bundle) => {
    let nodes = await Promise.all((await tiles.bundle(bundle)).map(leafHash));
    const count = nodes.length;
    if (count < TILE_WIDTH) return { nodes, count };
    while (nodes.length > 1) {
      nodes = await Promise.all(Array.from({ length: nodes.length / 2 }, (_, pair) => nodeHash(nodes[2 * pair], nodes[2 * pair + 1])));
    }
    return { nodes, count };
  };
  const push = async (hash, size) => {
    let node = { hash, size };
    while (stack.length && stack.at(-1).size === node.size) {
      node = { hash: await nodeHash(stack.pop().hash, node.hash), size: 2 * node.size };
    }
    stack.push(node);
  };
  let looked = 0;
  const isWhole = await walk(tiles, 0, 1, visiting(read, async (_bundle, { nodes, count }) => {
    for (const node of nodes) await push(node, count / nodes.length);
    looked += count;
    tell({ looked });
    return false;
  }));
  let hash = stack.pop()?.hash;
  while (stack.length) hash = await nodeHash(stack.pop().hash, hash);
  return { root: hash, looked, isWhole: isWhole && looked === tiles.size };
}

const WORK = { search, chart, root };

addEventListener("message", async ({ data: { id, work, size, ...asked } }) => {
  if (work === "stop") return void (stopped += 1);
  let last = 0;
  const tell = (progress) => {
    if (Date.now() - last < 200) return;
    last = Date.now();
    postMessage({ id, progress });
  };
  try {
    if (work === "keys") {
      [opener] = [await Opener.of(asked.keys)];
      known.clear();
      return postMessage({ id, done: {} });
    }
    postMessage({ id, done: await WORK[work](new Tiles(size, gateway.file), asked, tell) });
  } catch (error) {
    postMessage({ id, failed: error.message });
  }
});
