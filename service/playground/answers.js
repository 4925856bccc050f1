// Answers of the service, on the page.

import { bar, facts, h, joules, ms, percent, whole } from "./dom.js";

const LISTED = 3;
const REASONS = {
  largest: "nothing stood against the largest",
  deadline: "the deadline left no time for more",
  load: "others were waiting",
  cascade: "it was certain enough with the smallest",
  uncertain: "it was not certain enough with the smallest",
};

/** A budget that nothing was asked of yet. */
export function waiting(element, timesteps) {
  element.replaceChildren(h("h3", {}, `T = ${timesteps}`), h("p", { className: "note" }, "–"));
}

/** The answer to the request as it was made, and the picture as the network saw it. */
export function showOwn(element, seen, answer) {
  const [prediction] = answer.predictions;
  const passes = prediction.passes ?? [];
  seen.src = `data:image/png;base64,${prediction.input}`;
  seen.hidden = false;
  element.replaceChildren(
    h("div", { className: "class" }, prediction.label),
    h("p", {}, `${percent(prediction.probability)} sure, at T = ${prediction.timesteps}`
      + (prediction.reason in REASONS ? `: ${REASONS[prediction.reason]}` : "")),
    facts([
      ["spikes", `${whole(prediction.spikes.total)}, ${prediction.spikes.per_neuron.toFixed(2)} a neuron`],
      ["energy", energy(prediction.energy)],
      ["time", latency(answer.latency_ms)],
      ...(passes.length ? [["passes", passes.map((each) => `T = ${each.timesteps}`).join(", then ")]] : []),
    ]),
  );
}

/** The answer at one budget; `all` are the first predictions at every budget so far, for one scale. */
export function showBudget(element, answer, all) {
  const [prediction] = answer.predictions;
  const { spikes } = prediction;
  const most = Math.max(...[...all.values()].flatMap((each) => each.spikes.layers.map((layer) => layer.count)), 1);
  const dearest = Math.max(...[...all.values()].flatMap((each) => [each.energy.snn_nj ?? 0, each.energy.ann_nj ?? 0]), 1e-9);
  const latency = answer.latency_ms;
  element.replaceChildren(
    h("h3", {}, `T = ${answer.timesteps}`),
    h("div", { className: "class" }, prediction.label),
    ...prediction.top_k.slice(0, LISTED).map((each) => bar(each.label, each.probability, percent(each.probability))),
    h("h4", {}, `${whole(spikes.total)} spikes, by layer`),
    ...spikes.layers.map((layer, index) => {
      const line = bar(`${index + 1}`, layer.count / most, whole(layer.count));
      line.title = layer.name;
      return line;
    }),
    h("h4", {}, "Energy"),
    bar("spiking", (prediction.energy.snn_nj ?? 0) / dearest, joules(prediction.energy.snn_nj)),
    bar("dense", (prediction.energy.ann_nj ?? 0) / dearest, joules(prediction.energy.ann_nj), "second"),
    ...(prediction.energy.note ? [h("p", { className: "note" }, prediction.energy.note)] : []),
    h("h4", {}, "Time"),
    bar("queue", latency.queue / latency.total, ms(latency.queue)),
    bar("engine", latency.compute / latency.total, ms(latency.compute)),
    bar("rest", 1 - (latency.queue + latency.compute) / latency.total, ms(latency.total - latency.queue - latency.compute)),
  );
}

function energy(spent) {
  if (spent.snn_nj === null) return spent.note;
  return `${joules(spent.snn_nj)}, ${spent.ratio.toFixed(2)} of the dense network's ${joules(spent.ann_nj)}`;
}

function latency(spent) {
  return `${ms(spent.total)}: decoding ${ms(spent.decode)}, queue ${ms(spent.queue)}, engine ${ms(spent.compute)}`;
}
