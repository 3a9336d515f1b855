// Elements out of names, attributes and text. Text is only ever text: nothing here or elsewhere on the page parses HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** `h("p", {class: "x"}, "text", …)` */
export const h = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);

export const svg = (name, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

export const byId = (id) => document.getElementById(id);

/** Says something to a screen reader that a sighted reader sees anyway. */
export function say(text) {
  byId("said").textContent = text;
}

/** A coloured box with a heading; `kind` is good, bad, warn or info. The word says what the colour does. */
export function box(kind, title, ...children) {
  const word = { good: "Success", bad: "Important", warn: "Warning", info: "Information" }[kind];
  return h("div", { class: `box box-${kind}` }, h("h2", {}, h("span", { class: "hidden" }, `${word}: `), title), ...children);
}

export const tag = (kind, text) => h("strong", { class: `tag tag-${kind}` }, text);

/** A list of names and values. */
export function facts(rows) {
  return h(
    "dl",
    { class: "facts" },
    rows.filter(Boolean).map(([name, ...value]) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value))),
  );
}

/** A table with a caption; on a narrow screen each row becomes a card, where `data-label` names the cell. */
export function table(caption, head, rows, attributes = {}) {
  const cells = (row) => row.map((cell, at) => h("td", { "data-label": head[at] }, h("div", {}, cell)));
  return h(
    "table",
    { class: "stack", ...attributes },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, cells(row)))),
  );
}

/** A field with its label and a hint. */
export function field(label, control, hint) {
  const id = `f-${control.getAttribute("name")}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
    control,
  );
}
