// The service's API. Addresses are relative, so that the page also works below a prefix.

/** What the server said instead of an answer, in its own words. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** The models that are served. */
export const listModels = () => get("v1/models");

/** A model's card. */
export const readCard = (model) => get(`v1/models/${encodeURIComponent(model)}`);

/** The metrics as text. */
export async function readMetrics() {
  return (await answered(fetch("metrics", { headers: { accept: "text/plain" } }))).text();
}

/** Classify a picture; options that are null are left out. */
export async function classify(model, picture, options, { key = "", signal } = {}) {
  const form = new FormData();
  form.append("image", picture, "picture");
  for (const [name, value] of Object.entries(options)) if (value !== null) form.append(name, String(value));
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const path = `v1/models/${encodeURIComponent(model)}/classify`;
  return (await answered(fetch(path, { method: "POST", body: form, headers, signal }))).json();
}

async function get(path) {
  return (await answered(fetch(path))).json();
}

async function answered(promise) {
  let response;
  try {
    response = await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer.");
  }
  if (response.ok) return response;
  let text = `The server answered ${response.status}.`;
  try {
    const problem = await response.json();
    text = `${problem.title}: ${problem.detail}`;
  } catch {
    // no problem document: the status says what there is to say
  }
  throw new Refused(response.status, text);
}
