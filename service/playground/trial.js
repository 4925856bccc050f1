// The first tab: a picture and how it is to be classified, and the answers to that.

import * as api from "./api.js";
import { showBudget, showOwn, waiting } from "./answers.js";
import { at, h } from "./dom.js";
import { Latest } from "./latest.js";
import { Pad } from "./pad.js";
import { SAMPLES } from "./samples.js";

const SETTLED_MS = 60; // between a stroke's piece and the question about it, so that drawing comes first

export class Trial {
  constructor() {
    this.pad = new Pad(at("pad"), at("cursor"), () => this.#drawn());
    this.questions = new Latest(
      (signal, isCurrent) => this.#ask(signal, isCurrent),
      (busy) => { at("answers").ariaBusy = busy; },
    );
    this.given = null; // a picture that takes the drawing's place
    this.last = null; // what was last asked, for the snippets
    this.answers = new Map(); // by budget, to draw all bars to one scale
    this.#listen();
  }

  async start() {
    try {
      const { models } = await api.listModels();
      at("model").replaceChildren(...models.map((model) => h("option", { value: model.name }, model.name)));
      const preferred = models.find((model) => model.name === "numbers") ?? models[0];
      if (!preferred) throw new api.Refused(503, "No model is ready yet.");
      at("model").value = preferred.name;
      await this.#choose();
    } catch (error) {
      this.#refuse(error);
      if (error.status === 503 || error.status === 0) setTimeout(() => this.start(), 1000);
    }
  }

  #listen() {
    at("model").addEventListener("change", () => this.#choose().catch((error) => this.#refuse(error)));
    at("clear").addEventListener("click", () => this.#clear());
    at("undo").addEventListener("click", () => (this.given ? this.#clear() : this.pad.undo()));
    at("budget").addEventListener("input", () => {
      at("auto").checked = false;
      this.#changed();
    });
    for (const id of ["auto", "deadline", "confidence", "profile", "key"]) {
      at(id).addEventListener("input", () => this.#changed());
    }
    at("request").addEventListener("submit", (event) => event.preventDefault());
    at("file").addEventListener("change", () => {
      this.#take(at("file").files[0]);
      at("file").value = ""; // so that the same file can be taken again
    });
    const drop = at("drop");
    for (const name of ["dragenter", "dragover"]) {
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.add("over");
      });
    }
    for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#take(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files][0];
      if (file) this.#take(file);
    });
  }

  async #choose() {
    const card = await api.readCard(at("model").value);
    this.card = card;
    this.budgets = card.budgets.map((budget) => budget.timesteps);
    at("about").textContent = card.description;
    this.pad.shape(card.input.width, card.input.height);
    at("budget").max = this.budgets.length - 1;
    at("budget").value = this.budgets.length - 1;
    const profile = at("profile").value;
    at("profile").replaceChildren(...card.energy_profiles.map((each) => h("option", { value: each.name }, each.name)));
    if (card.energy_profiles.some((each) => each.name === profile)) at("profile").value = profile;
    at("budgets").replaceChildren(
      ...this.budgets.map((timesteps) => h("section", { className: "card", id: `budget-${timesteps}` })),
    );
    this.#offerSamples();
    this.#forget();
    this.#changed();
  }

  #offerSamples() {
    const fits = SAMPLES.filter((each) => each.width === this.card.input.width && each.height === this.card.input.height);
    at("samples").replaceChildren(
      ...fits.map((sample) => {
        const image = h("img", { src: sample.src, alt: `a written ${sample.label}` });
        const take = async () => this.#take(await (await fetch(sample.src)).blob());
        return h("button", { type: "button", onclick: take }, image);
      }),
    );
  }

  #drawn() {
    if (this.given) this.#show(null);
    at("hint").hidden = !this.pad.empty;
    if (this.pad.empty) this.#forget();
    else this.questions.askWithin(SETTLED_MS);
  }

  #take(file) {
    if (!file) return;
    this.#show(file);
    this.questions.ask();
  }

  /** Show a given picture over the pad, or with null the pad again. */
  #show(file) {
    const picture = at("picture");
    URL.revokeObjectURL(picture.src);
    this.given = file;
    picture.hidden = !file;
    at("hint").hidden = file !== null || !this.pad.empty;
    if (file) picture.src = URL.createObjectURL(file);
  }

  #clear() {
    this.#show(null);
    this.pad.clear();
  }

  #forget() {
    this.questions.drop();
    this.answers.clear();
    at("problem").hidden = true;
    at("seen").hidden = true;
    at("own").replaceChildren(h("p", { className: "note" }, "Draw something, or take a sample."));
    for (const timesteps of this.budgets ?? []) waiting(at(`budget-${timesteps}`), timesteps);
  }

  #changed() {
    const { timesteps } = this.#options();
    at("steps").textContent = timesteps;
    for (const each of this.budgets) at(`budget-${each}`).classList.toggle("chosen", each === timesteps);
    const profile = this.card.energy_profiles.find((each) => each.name === at("profile").value);
    at("profile-text").textContent = profile.description;
    at("assumptions").replaceChildren(...profile.assumptions.map((text) => h("li", {}, text)));
    if (this.given || !this.pad.empty) this.questions.ask();
  }

  #options() {
    const confidence = Number(at("confidence").value);
    const auto = at("auto").checked || confidence > 0;
    return {
      timesteps: auto ? "auto" : this.budgets[Number(at("budget").value)],
      deadline_ms: Number(at("deadline").value) || null,
      min_confidence: confidence ? confidence / 100 : null,
      energy_profile: at("profile").value || null,
    };
  }

  async #ask(signal, isCurrent) {
    const model = at("model").value;
    const card = this.card;
    const options = this.#options();
    const picture = this.given ?? (await this.pad.picture());
    const key = at("key").value;
    this.last = { model, options, name: this.given?.name, key: key !== "" };
    const send = (more) => api.classify(model, picture, { ...options, ...more }, { key, signal });
    const counts = () => isCurrent() && this.card === card;
    const own = send({ include: "input" }).then((answer) => {
      if (!counts()) return;
      at("problem").hidden = true;
      showOwn(at("own"), at("seen"), answer);
    });
    const every = card.budgets.map(async ({ timesteps }) => {
      const answer = await send({ timesteps, deadline_ms: null, min_confidence: null });
      if (!counts()) return;
      this.answers.set(timesteps, answer.predictions[0]);
      showBudget(at(`budget-${timesteps}`), answer, this.answers);
    });
    for (const result of await Promise.allSettled([own, ...every])) {
      const error = result.reason;
      if (error && error.name !== "AbortError" && counts()) {
        this.#refuse(error);
        break;
      }
    }
  }

  #refuse(error) {
    if (!(error instanceof api.Refused)) console.error(error);
    at("problem").textContent = error.message;
    at("problem").hidden = false;
  }
}
