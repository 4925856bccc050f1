// The third tab: what was last done, as commands, and the models with what their budgets buy.

import * as api from "./api.js";
import { at, h, joules, ms, percent, whole } from "./dom.js";
import { scatter } from "./plot.js";

/** Show the commands for the last request, null if there was none, and all models. */
export async function showModels(last) {
  const { curl, python } = snippets(last);
  at("curl").textContent = curl;
  at("python").textContent = python;
  for (const name of ["curl", "python"]) at(`copy-${name}`).onclick = () => copy(name);
  try {
    const { models, failed } = await api.listModels();
    const names = [...new Set(models.map((model) => model.name))];
    const cards = await Promise.all(names.map(api.readCard));
    const problems = Object.entries(failed).map(([name, why]) => h("p", { role: "alert" }, `${name} could not be loaded: ${why}`));
    at("cards").replaceChildren(...problems, ...cards.map(article));
  } catch (error) {
    at("cards").replaceChildren(h("p", { role: "alert" }, error.message));
  }
}

/** A request as curl and as Python. A key is named, never shown. */
export function snippets(last) {
  const { model, options, name, key } = last ?? { model: "mnist", options: { timesteps: 4 } };
  const said = Object.entries(options).filter(([, value]) => value !== null);
  const url = new URL(`v1/models/${encodeURIComponent(model)}/classify`, document.baseURI).href;
  const base = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const file = name || "picture.png";
  const shell = (text) => (/^[\w.@%+:/=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const fields = [`image=@${file}`, ...said.map(([option, value]) => `${option}=${value}`)];
  const header = key ? ['-H "authorization: Bearer $LMHT_API_KEY"'] : [];
  const curl = ["curl", ...header, ...fields.map((field) => `-F ${shell(field)}`), shell(url)].join(" ");
  const text = JSON.stringify;
  const keywords = said.map(([option, value]) => `${option}=${text(value)}`);
  const python = [
    ...(key ? ["import os"] : []),
    "from pathlib import Path",
    "from service.client import Client",
    "",
    `with Client(${[text(base), ...(key ? ['api_key=os.environ["LMHT_API_KEY"]'] : [])].join(", ")}) as client:`,
    `    pictures = [Path(${text(file)}).read_bytes()]`,
    `    answer = client.classify(${[text(model), "pictures", ...keywords].join(", ")})`,
    "    print(answer.predictions[0].label)",
  ].join("\n");
  return { curl, python };
}

async function copy(name) {
  try {
    await navigator.clipboard.writeText(at(name).textContent);
    at("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(at(name)); // where the browser keeps the clipboard to itself
    at("copied").textContent = "Selected: copy it with the keyboard.";
  }
}

function article(card) {
  const measured = card.budgets.filter((budget) => budget.accuracy && budget.energy.length);
  return h("article", { className: "card" },
    h("h3", {}, `${card.name}, version ${card.version}`),
    h("p", {}, card.description),
    h("p", { className: "note" }, `${card.classes.length} classes; L = ${card.levels}; T-GIM ${card.tgim}; input `
      + `${card.input.channels}×${card.input.height}×${card.input.width}; on ${card.engine}`),
    h("div", { className: "scroll", tabIndex: 0, role: "group", "aria-label": `Budgets of ${card.name}` }, table(card)),
    measured.length ? plots(measured) : h("p", { className: "note" }, "Its accuracy was not measured."));
}

function table(card) {
  const heads = ["T", "accuracy", "spikes an image", "energy", "of the dense network's", "latency here"];
  const rows = card.budgets.map((budget) => {
    const [energy] = budget.energy;
    return [
      budget.timesteps,
      budget.accuracy ? percent(budget.accuracy.served, 2) : "–",
      budget.mean_spikes ? whole(budget.mean_spikes.total) : "–",
      energy ? joules(energy.snn_nj) : "–",
      energy?.ratio ? energy.ratio.toFixed(3) : "–",
      budget.latency_ms === null ? "–" : ms(budget.latency_ms),
    ];
  });
  return h("table", {},
    h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((text) => h("td", {}, String(text)))))));
}

function plots(budgets) {
  const kinds = [
    ["spikes an image", (budget) => budget.mean_spikes.total, ""],
    ["energy", (budget) => (budget.energy[0].snn_nj ?? 0) / 1000, "µJ"],
    ["latency here", (budget) => budget.latency_ms ?? 0, "ms"],
  ];
  return h("div", { className: "plots" }, kinds.map(([title, value, unit]) => {
    const points = budgets.map((budget) => {
      const { served, samples } = budget.accuracy;
      const error = 100 * Math.sqrt((served * (1 - served)) / samples);
      return { x: value(budget), y: 100 * served, error, label: `T=${budget.timesteps}` };
    });
    return h("figure", {}, h("figcaption", {}, `Accuracy against ${title}`), scatter(title, points, unit));
  }));
}
