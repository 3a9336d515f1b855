// Which view is shown. The address after # names it; each change puts the focus on the new heading and tells the title.

import { charts } from "./charts.js";
import { box, byId, h } from "./dom.js";
import { entry } from "./entry.js";
import * as gateway from "./gateway.js";
import { list } from "./list.js";
import { Log } from "./log.js";
import { overview } from "./overview.js";
import { reviews } from "./reviews.js";
import { stop } from "./scanner.js";
import { search } from "./search.js";

const VIEWS = { overview, log: list, entry, search, reviews, charts };

const log = new Log();
let state = null;
let unlocked = null;
let turn = 0;

async function load() {
  state = await gateway.json("/auditor/state");
  byId("who").textContent = `Signed in as ${state.client}${state.client === state.role ? "" : ` (${state.role.replace("-", " ")})`}`;
  await log.refresh(state.log.vkey);
}

const route = () => {
  const [name, ...args] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  return { name: VIEWS[name] ? name : "overview", args };
};

async function show() {
  const mine = (turn += 1);
  const { name, args } = route();
  stop();
  let parts;
  try {
    if (!state || name === "overview") await load();
    if (log.finding && name !== "overview") parts = [h("h1", {}, "The log is not believed"), h("p", {}, log.finding)];
    else parts = await VIEWS[name]({ log, state, args, unlocked, go, reload });
  } catch (error) {
    const title = error instanceof gateway.Refused ? "Not permitted" : "This could not be shown";
    parts = [h("h1", {}, title), box("bad", "What went wrong", h("p", {}, error.message))];
  }
  // Somebody may have moved on while this was read.
  if (mine !== turn) return;
  place(name, parts.flat(Infinity).filter(Boolean));
}

function place(name, parts) {
  const main = byId("main");
  const isFirst = Boolean(main.querySelector(".loading"));
  main.replaceChildren(...parts);
  const title = main.querySelector("h1");
  document.title = `${title.textContent} – Sallyport access log`;
  for (const item of byId("nav").querySelectorAll("a")) {
    const isHere = item.hash === `#/${name === "entry" ? "log" : name}`;
    if (isHere) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  byId("alarm").replaceChildren(...(log.finding && name !== "overview" ? [h("p", { class: "loud" }, "The log does not hold: see the overview")] : []));
  title.tabIndex = -1;
  if (!isFirst) {
    title.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

const go = (hash) => {
  if (location.hash === hash) show();
  else location.hash = hash;
};
/** Shows the view again; `opened` are keys that were unlocked meanwhile. */
const reload = (opened = unlocked) => {
  unlocked = opened;
  show();
};

addEventListener("hashchange", () => {
  // The skip link's own target is no view.
  if (location.hash === "#main") return;
  show();
});
show();
