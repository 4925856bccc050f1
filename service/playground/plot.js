// Small plots, as SVG that also reads in words.

import { s } from "./dom.js";

const WIDTH = 340;
const HEIGHT = 190;
const LEFT = 46;
const RIGHT = 16;
const TOP = 22;
const BOTTOM = 34;

/** Lines over time; each is {name, values}, with null where there was nothing. */
export function lines(title, series, unit, seconds) {
  const top = Math.max(...series.flatMap((each) => each.values.filter((value) => value !== null)), 0) || 1;
  const count = Math.max(2, ...series.map((each) => each.values.length));
  const x = (index) => LEFT + ((WIDTH - LEFT - RIGHT) * index) / (count - 1);
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top);
  const drawn = series.flatMap(({ values }, order) => {
    const kind = `line ${order ? "second" : ""}`;
    const known = (index) => (values[index] ?? null) !== null;
    const path = values.map((value, index) => (known(index) ? `${known(index - 1) ? "L" : "M"}${x(index)} ${y(value)}` : ""));
    // What has no neighbour makes no line.
    const alone = values.flatMap((value, index) =>
      known(index) && !known(index - 1) && !known(index + 1) ? [s("circle", { class: kind, cx: x(index), cy: y(value), r: 2 })] : []);
    return path.join("") ? [s("path", { class: kind, d: path.join("") }), ...alone] : [];
  });
  const legend = series.length > 1
    ? series.map((each, order) => s("text", { x: LEFT + 6 + 110 * order, y: TOP - 8 }, `${order ? "- - " : "— "}${each.name}`))
    : [];
  const words = series.map((each) => `${each.name} ${words_of(each.values, unit)}`).join("; ");
  return frame(`${title}: ${words}`, [
    ...drawn, ...legend,
    s("text", { x: LEFT - 4, y: TOP + 4, "text-anchor": "end" }, short(top)),
    s("text", { x: LEFT - 4, y: HEIGHT - BOTTOM, "text-anchor": "end" }, "0"),
    s("text", { x: LEFT, y: HEIGHT - 8, class: "soft" }, `${seconds} s ago`),
    s("text", { x: WIDTH - RIGHT, y: HEIGHT - 8, "text-anchor": "end", class: "soft" }, `now, in ${unit}`),
  ]);
}

/** Points (x, y ± error), each with its label; y in percent. */
export function scatter(title, points, unit) {
  const xs = points.map((point) => point.x);
  const low = Math.min(...points.map((point) => point.y - point.error));
  const high = Math.max(...points.map((point) => point.y + point.error));
  const room = (high - low || 1) * 0.15;
  const right = Math.max(...xs) * 1.12 || 1;
  const x = (value) => LEFT + ((WIDTH - LEFT - RIGHT) * value) / right;
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * (value - low + room)) / (high - low + 2 * room);
  const drawn = points.flatMap((point) => [
    s("path", { class: "error", d: `M${x(point.x)} ${y(point.y - point.error)}V${y(point.y + point.error)}` }),
    s("circle", { class: "point", cx: x(point.x), cy: y(point.y), r: 4 }),
    s("text", { x: x(point.x) + 6, y: y(point.y) - 5 }, point.label),
  ]);
  const words = points.map((point) => `${point.label} ${point.y.toFixed(1)} % at ${short(point.x)} ${unit}`).join("; ");
  return frame(`${title}: ${words}`, [
    ...drawn,
    s("text", { x: LEFT - 4, y: y(high) + 4, "text-anchor": "end" }, `${high.toFixed(1)} %`),
    s("text", { x: LEFT - 4, y: y(low) + 4, "text-anchor": "end" }, `${low.toFixed(1)} %`),
    s("text", { x: LEFT, y: HEIGHT - 8, class: "soft" }, "0"),
    s("text", { x: WIDTH - RIGHT, y: HEIGHT - 8, "text-anchor": "end", class: "soft" }, `${title}, up to ${short(right)} ${unit}`),
  ]);
}

function frame(words, content) {
  const axis = s("path", { class: "axis", d: `M${LEFT} ${TOP - 4}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` });
  return s("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words }, axis, content);
}

function words_of(values, unit) {
  const last = values.at(-1);
  return last === null || last === undefined ? "nothing" : `${short(last)} ${unit}`;
}

function short(value) {
  if (value >= 1000) return `${Number((value / 1000).toPrecision(3))}k`;
  return `${Number(value.toPrecision(3))}`;
}
