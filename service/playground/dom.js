// Making elements. No markup is ever put together from text, so that nothing a server says can become markup.

/** An element with properties, attributes (where a name has a dash or the value is no property), and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat());
  return element;
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat());
  return element;
}

/** The element with an id. */
export const at = (id) => document.getElementById(id);

/** A bar with its name and value in words; `share` of 0 to 1 is its length. */
export function bar(name, share, value, kind = "") {
  const amount = h("div", { className: "amount" });
  amount.style.width = `${100 * Math.min(1, Math.max(0, share || 0))}%`;
  return h("div", { className: `bar ${kind}` }, h("span", {}, name), h("div", { className: "track" }, amount),
    h("span", { className: "value" }, value));
}

/** A list of names and values. */
export function facts(entries) {
  return h("dl", { className: "facts" }, entries.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
export const whole = (number) => Math.round(number).toLocaleString("en");

/** Milliseconds in three digits or so. */
export const ms = (value) => `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : whole(value)} ms`;

/** Nanojoules, in the unit that keeps them readable. */
export function joules(nj) {
  if (nj === null || nj === undefined) return "–";
  return nj >= 1e6 ? `${(nj / 1e6).toFixed(2)} mJ` : nj >= 1e3 ? `${(nj / 1e3).toFixed(2)} µJ` : `${nj.toFixed(1)} nJ`;
}
