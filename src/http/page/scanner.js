// The page's side of the worker: asks it, hears how far it is, stops it.

const NAME = "/auditor/scan.js";

/** The one script that the page starts by name; where the browser knows Trusted Types, it has to be vouched for. */
const vouched = globalThis.trustedTypes?.createPolicy("sallyport", {
  createScriptURL(name) {
    if (name !== NAME) throw new TypeError("no script of this page");
    return name;
  },
});

let worker = null;
let next = 0;
const waiting = new Map();

function begin() {
  worker = new Worker(vouched ? vouched.createScriptURL(NAME) : NAME, { type: "module" });
  worker.addEventListener("message", ({ data: { id, progress, done, failed } }) => {
    const asked = waiting.get(id);
    if (progress) return asked?.tell?.(progress);
    waiting.delete(id);
    if (failed) asked?.reject(new Error(failed));
    else asked?.resolve(done);
  });
  worker.addEventListener("error", () => {
    for (const { reject } of waiting.values()) reject(new Error("the search could not be started"));
    waiting.clear();
  });
}

/** Asks for a piece of work; `tell` hears its progress. */
export function ask(work, asked, tell) {
  if (!worker) begin();
  const id = (next += 1);
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject, tell });
    worker.postMessage({ id, work, ...asked });
  });
}

/** Ends what the worker is at; it answers with what it has. */
export const stop = () => worker?.postMessage({ work: "stop" });
