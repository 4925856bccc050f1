// The second tab: what the server does, from its metrics. Differences of counters, once a second, for a minute.

import * as api from "./api.js";
import { at, bar, h, ms, whole } from "./dom.js";
import { lines } from "./plot.js";

const EVERY_MS = 1000;
const KEPT = 60;
const SAMPLE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export class Live {
  constructor() {
    this.seen = []; // {at, samples}, oldest first
    this.open = false;
    this.#read();
    setInterval(() => this.#read(), EVERY_MS);
  }

  /** Show it, or no more. It is read in any case while the page can be seen, so that there is a past to show. */
  run(open) {
    this.open = open;
    if (open) this.#read();
  }

  async #read() {
    if (this.reading || document.hidden) return;
    this.reading = true;
    try {
      this.seen.push({ at: performance.now(), samples: parse(await api.readMetrics()) });
      this.seen = this.seen.slice(-KEPT - 1);
      at("live-problem").hidden = true;
      if (this.open) this.#show();
    } catch (error) {
      at("live-problem").textContent = error.message;
      at("live-problem").hidden = false;
    } finally {
      this.reading = false;
    }
  }

  #show() {
    const steps = this.seen.slice(1).map((now, index) => between(this.seen[index], now));
    const minute = this.seen.length > 1 ? between(this.seen[0], this.seen.at(-1)) : null;
    const last = steps.at(-1);
    const queued = sum(this.seen.at(-1).samples, "lmht_queued_images");
    at("figures").replaceChildren(
      figure("requests a second", last ? last.rate.toFixed(1) : "–"),
      figure("median, last minute", minute?.p50 ? ms(1000 * minute.p50) : "–"),
      figure("99th percentile", minute?.p99 ? ms(1000 * minute.p99) : "–"),
      figure("refused or failed", minute ? whole(minute.refused) : "–"),
      figure("images waiting", whole(queued)),
      figure("spikes an image", minute?.images ? whole(minute.spikes / minute.images) : "–"),
    );
    const seconds = Math.round((EVERY_MS / 1000) * Math.max(1, steps.length));
    at("live-plots").replaceChildren(
      plotted("Requests", [{ name: "a second", values: steps.map((step) => step.rate) }], "requests a second", seconds),
      plotted("Latency", [
        { name: "median", values: steps.map((step) => (step.p50 === null ? null : 1000 * step.p50)) },
        { name: "99 %", values: steps.map((step) => (step.p99 === null ? null : 1000 * step.p99)) },
      ], "ms", seconds),
    );
    const all = minute ? [...minute.choices.values()].reduce((total, count) => total + count, 0) : 0;
    at("choices").replaceChildren(
      ...(all
        ? [...minute.choices].sort(([a], [b]) => a - b).map(([t, count]) => bar(`T = ${t}`, count / all, `${whole(count)} ${count === 1 ? "image" : "images"}`))
        : [h("p", { className: "note" }, "None in the last minute.")]),
    );
  }
}

function figure(name, value) {
  return h("div", { className: "card" }, h("b", {}, value), name);
}

function plotted(title, series, unit, seconds) {
  return h("figure", { className: "card" }, h("figcaption", {}, title), lines(title, series, unit, seconds));
}

/** Prometheus' text as {name, labels, value}. */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : SAMPLE.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, plain(value)]));
    samples.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return samples;
}

function plain(value) {
  return value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
}

function sum(samples, name, keep = () => true) {
  return samples.reduce((total, each) => (each.name === name && keep(each.labels) ? total + each.value : total), 0);
}

/** What happened between two readings. */
function between(before, after) {
  const seconds = (after.at - before.at) / 1000;
  // A counter that fell belongs to a server that was started anew.
  const gain = (name, keep) => Math.max(0, sum(after.samples, name, keep) - sum(before.samples, name, keep));
  const bounds = [...new Set(after.samples.filter(({ name }) => name === "lmht_request_duration_seconds_bucket")
    .map(({ labels }) => labels.le))].map((le) => [le === "+Inf" ? Infinity : Number(le), le]).sort(([a], [b]) => a - b);
  const buckets = bounds.map(([bound, le]) => [bound, gain("lmht_request_duration_seconds_bucket", (labels) => labels.le === le)]);
  const timesteps = new Set(after.samples.filter(({ name }) => name === "lmht_budget_choices_total").map(({ labels }) => labels.timesteps));
  const choices = new Map([...timesteps]
    .map((t) => [Number(t), gain("lmht_budget_choices_total", (labels) => labels.timesteps === t)])
    .filter(([, count]) => count > 0));
  return {
    rate: gain("lmht_requests_total") / seconds,
    refused: gain("lmht_requests_total", (labels) => labels.code !== "200"),
    images: gain("lmht_images_total"),
    spikes: gain("lmht_spikes_total"),
    p50: quantile(buckets, 0.5),
    p99: quantile(buckets, 0.99),
    choices,
  };
}

/** As Prometheus' histogram_quantile: linear within the bucket that holds it. */
export function quantile(buckets, share) {
  const all = buckets.at(-1)?.[1] ?? 0;
  if (!all) return null;
  const wanted = share * all;
  let [low, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= wanted) return bound === Infinity ? low : low + ((bound - low) * (wanted - below)) / (count - below || 1);
    [low, below] = [bound, count];
  }
  return low;
}
