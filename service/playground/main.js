// The page: tabs, and what each of them holds.

import { at } from "./dom.js";
import { Live } from "./live.js";
import { showModels } from "./models.js";
import { Trial } from "./trial.js";

const tabs = [...document.querySelectorAll('[role="tab"]')];
const live = new Live();
const trial = new Trial();

function select(tab, { first = false } = {}) {
  for (const each of tabs) {
    const chosen = each === tab;
    each.setAttribute("aria-selected", chosen);
    each.tabIndex = chosen ? 0 : -1;
    at(each.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (!first) {
    tab.focus();
    history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
  }
  live.run(tab.id === "tab-live");
  if (tab.id === "tab-models") showModels(trial.last);
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    select(tabs[(to + tabs.length) % tabs.length]);
  });
}

const named = tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash);
select(named ?? tabs[0], { first: true });
trial.start();
