// Accesses and refusals over time: bars drawn as SVG, and the same numbers as a table for whoever does not see them.

import { h, say, svg, table } from "./dom.js";
import { ask, stop } from "./scanner.js";
import { count, duration, moment } from "./words.js";

const HOUR = 3600000;
const RANGES = {
  day: ["24 hours", 24 * HOUR, 24],
  week: ["7 days", 168 * HOUR, 28],
  month: ["30 days", 720 * HOUR, 30],
  all: ["The whole log", null, 40],
};
const SERIES = [
  ["releases", "Records given out", "bar-good"],
  ["refusals", "Refusals", "bar-bad"],
  ["emergencies", "Emergencies declared", "bar-warn"],
];
const SHORT = new Intl.DateTimeFormat("en-GB", { timeZone: "Europe/London", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** `#/charts/RANGE` */
export async function charts({ log, state, args }) {
  const range = RANGES[args[0]] ? args[0] : "day";
  const place = h("div", { class: "charts" });
  draw(log, state, range, place);
  const links = Object.entries(RANGES).map(([name, [words]]) =>
    h("a", { href: `#/charts/${name}`, "aria-current": name === range ? "true" : null }, words));
  return [h("h1", {}, "Accesses and refusals"), h("nav", { class: "pager", "aria-label": "Time" }, links), place];
}

async function draw(log, state, range, place) {
  const [words, span, steps] = RANGES[range];
  const size = log.checkpoint.size;
  const progress = h("progress", { max: size, value: 0, "aria-label": "Entries counted" });
  place.append(h("div", { class: "working" }, progress, h("p", {}, "Counting…"), h("button", { class: "button secondary", type: "button", onclick: stop }, "Stop")));
  const untilMs = state.now_ms;
  try {
    const asked = { size, since: span ? untilMs - span : null, steps, untilMs };
    const done = await ask("chart", asked, ({ looked }) => { progress.value = looked; });
    const label = (at) => SHORT.format(done.start + at * done.step);
    const note = done.isWhole ? "" : " You stopped the count: older entries are missing.";
    place.replaceChildren(
      h("p", { class: "lede" }, `${words}, up to ${moment(untilMs)}. Each bar is ${duration(done.step)}.${note}`),
      ...SERIES.map(([name, title, kind]) => figure(title, kind, done.counts[name], label)),
      h("details", { class: "details" }, h("summary", {}, "The numbers as a table"),
        table("Accesses and refusals", ["From", ...SERIES.map(([, title]) => title)],
          done.counts.releases.map((_, at) => [label(at), ...SERIES.map(([name]) => count(done.counts[name][at]))]))));
    say("The charts are drawn");
  } catch (error) {
    place.replaceChildren(h("p", { class: "box box-bad" }, `The count failed: ${error.message}`));
  }
}

function figure(title, kind, values, label) {
  const [width, height, foot] = [720, 180, 24];
  const most = Math.max(1, ...values);
  const total = values.reduce((sum, value) => sum + value, 0);
  const each = width / values.length;
  const bars = values.map((value, at) => {
    const tall = (value / most) * (height - 8);
    return svg("rect", { class: kind, x: at * each + 1, y: height - tall, width: Math.max(1, each - 2), height: tall },
      svg("title", {}, `${label(at)}: ${count(value)}`));
  });
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height + foot}`, role: "img", "aria-label": `${title}: ${count(total)} in all, at most ${count(most)} in one step. The numbers stand in the table below.` },
    svg("line", { class: "axis", x1: 0, y1: height, x2: width, y2: height }),
    bars,
    svg("text", { x: 0, y: height + foot - 5 }, label(0)),
    svg("text", { x: width, y: height + foot - 5, "text-anchor": "end" }, label(values.length - 1)));
  return h("figure", { class: "figure" },
    h("figcaption", {}, h("strong", {}, title), h("span", {}, `${count(total)} in all, at most ${count(Math.max(0, ...values))} in one bar`)), picture);
}
