// The menu of LoRAs: folders, a search over all, those used last, and a preview of the one that is looked at. Nothing is
// read of a file before it is looked at.
import { folderOf, listFolder, matching } from "./lora_names.mjs";
import { classed, namePieces, openPopup } from "./lora_popups.mjs";
import { cardOf } from "./lora_words.mjs";
import { t } from "./words.mjs";

const MOST_SHOWN = 200; // names at a time; the search finds the others
const MOST_RECENT = 6;
const LOOK_MS = 120; // how long an entry is looked at before its file is
const LIST_PX = [260, 420], CARD_PX = 190;
const RECENT = "cvl.loras.recent"; // in the browser's storage

/** The names used last, the newest first. */
function recent() {
  try {
    const kept = JSON.parse(localStorage.getItem(RECENT));
    return Array.isArray(kept) ? kept.filter((name) => typeof name === "string") : [];
  } catch {
    return []; // nothing there, or a browser that keeps nothing
  }
}

function noteUse(name) {
  try {
    const kept = [name, ...recent().filter((other) => other !== name)].slice(0, 2 * MOST_RECENT);
    localStorage.setItem(RECENT, JSON.stringify(kept));
  } catch {
    // a browser that keeps nothing
  }
}

/**
 * `names` is a promise of the menu, `canWrite` says which of them the list can hold, `choose` takes the one that is
 * chosen by mouse or keys; with `many` the menu stays open for more. `facts` is a function of a name with a promise.
 */
export function openPicker(anchor, { names, current, canWrite, choose, then, many, facts }) {
  const content = classed("div", "cvl-menu"), search = classed("input", "cvl-search");
  const crumbs = classed("div", "cvl-crumbs"), list = classed("div", "cvl-options"), note = classed("div", "cvl-note");
  const foot = classed("div", "cvl-foot"), done = classed("button", "cvl-done", t("Done"));
  const columns = classed("div", "cvl-picker"), card = classed("div", "cvl-card");
  Object.assign(search, { type: "text", placeholder: t("search LoRAs"), spellcheck: false, autocomplete: "off" });
  list.id = `cvl-options-${Math.random().toString(36).slice(2)}`;
  list.setAttribute("role", "listbox");
  for (const [name, value] of [["role", "combobox"], ["aria-expanded", "true"], ["aria-controls", list.id],
    ["aria-autocomplete", "list"], ["aria-label", t("search LoRAs")]]) search.setAttribute(name, value);
  foot.append(note, done);
  content.append(search, crumbs, list, foot);
  columns.append(content, card);
  const list_px = Math.max(LIST_PX[0], Math.min(LIST_PX[1], anchor.getBoundingClientRect().width));
  const width_px = Math.round(Math.min(window.innerWidth - 16, list_px + CARD_PX));
  const popup = openPopup(anchor, columns, { width_px, label: t("LoRAs"), then });
  const state = { all: null, folder: current ? folderOf(current) : "", options: [], active: -1, added: [] };
  done.style.display = many ? "" : "none";
  done.addEventListener("click", () => popup.close());

  const open = (folder) => {
    state.folder = folder;
    search.value = "";
    fill();
    search.focus({ preventScroll: true });
  };
  const take = (option, stays) => {
    if (!option || option.disabled) return;
    if (option.folder !== undefined) return void open(option.folder);
    if (!stays) popup.close();
    noteUse(option.name);
    choose(option.name);
    if (!stays) return;
    state.added.push(option.name);
    option.element.classList.add("cvl-added");
    note.textContent = t("{} added", state.added.length);
    search.focus({ preventScroll: true });
  };
  const activate = (place) => {
    state.options[state.active]?.element.setAttribute("aria-selected", "false");
    state.active = Math.max(0, Math.min(state.options.length - 1, place));
    const option = state.options[state.active];
    option?.element.setAttribute("aria-selected", "true");
    option?.element.scrollIntoView({ block: "nearest" });
    search.setAttribute("aria-activedescendant", option?.element.id ?? "");
    showCard(card, option?.name, facts);
  };
  const fill = () => {
    const { options, rest } = optionsOf(state, search.value, current, canWrite);
    state.options = options.filter((option) => !option.title);
    state.options.forEach((option, place) => {
      option.element.id = `${list.id}-${place}`;
      option.element.addEventListener("pointermove", () => state.active === place || activate(place));
      option.element.addEventListener("click", () => take(option, many));
      option.element.classList.toggle("cvl-added", state.added.includes(option.name));
    });
    crumbs.replaceChildren(...crumbsOf(search.value ? "" : state.folder, open));
    list.replaceChildren(...options.map((option) => option.element));
    note.textContent = !state.all ? "…" : !state.all.length ? t("the server did not answer")
      : !state.options.length ? t("no LoRA has that in its name") : rest ? t("… and {} more; type to find them", rest)
        : state.added.length ? t("{} added", state.added.length) : many ? t("a click adds; Enter adds and closes") : "";
    const now = state.options.findIndex((option) => option.name && option.name === current);
    activate(search.value ? 0 : now < 0 ? state.options.findIndex((option) => option.name) : now);
    popup.place();
  };
  search.addEventListener("input", fill);
  search.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step) activate(state.active + step);
    else if (event.key === "Enter" && !event.isComposing) take(state.options[state.active], many && event.shiftKey);
    else if (event.key === "Backspace" && !search.value && state.folder) open(folderOf(state.folder));
    else if (event.key === "Tab") popup.close();
    if (step || event.key === "Enter") event.preventDefault();
  });
  fill();
  search.focus({ preventScroll: true });
  names.then((found) => {
    state.all = found;
    if (!found.some((name) => folderOf(name) === state.folder)) state.folder = "";
    fill();
  });
}

/** The entries to show: of a search over all folders, or of the folder that is open. */
function optionsOf({ all, folder }, search, current, canWrite) {
  if (!all) return { options: [], rest: 0 };
  const optionsFor = (names, whole) => names.map((name) => optionOf(name, name === current, canWrite(name), whole));
  if (search.trim()) {
    const found = matching(all, search);
    return { options: optionsFor(found.slice(0, MOST_SHOWN), true), rest: Math.max(0, found.length - MOST_SHOWN) };
  }
  const { folders, names } = listFolder(all, folder);
  const known = new Set(all), last = folder ? [] : recent().filter((name) => known.has(name)).slice(0, MOST_RECENT);
  const options = [...folders.map(folderOption), ...optionsFor(names.slice(0, MOST_SHOWN), false)];
  if (last.length) {
    options.unshift(titleOf(t("used last")), ...optionsFor(last, true), titleOf(t("all")));
  }
  return { options, rest: Math.max(0, names.length - MOST_SHOWN) };
}

const titleOf = (text) => ({ title: true, element: classed("div", "cvl-group", text) });

function folderOption({ path, name, count }) {
  const made = classed("div", "cvl-option cvl-folder");
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", "false");
  const shown = path === "bundled" ? t("bundled (the example of this pack)") : name;
  made.append(classed("span", "", `▸ ${shown}`), classed("span", "cvl-pale", ` ${count}`));
  return { folder: path, element: made };
}

function optionOf(name, isCurrent, writable, whole) {
  const made = classed("div", "cvl-option");
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", "false");
  if (isCurrent) made.classList.add("cvl-current");
  if (!writable) made.setAttribute("aria-disabled", "true");
  const why = t("the list cannot hold this name; rename the file (no \":\" and no \" #\" in it)");
  made.title = writable ? name : `${name}: ${why}`;
  made.append(...namePieces(whole ? name : name.split(/[\\/]/).pop()));
  return { name, element: made, disabled: !writable };
}

/** The way from all folders to the one that is open; a click goes back. */
function crumbsOf(folder, open) {
  if (!folder) return [];
  const steps = folder.split("/");
  const crumb = (text, path) => {
    const made = classed("button", "cvl-crumb", text);
    made.dataset.folder = path;
    made.addEventListener("click", () => open(path));
    return made;
  };
  return [crumb(t("all LoRAs"), ""), ...steps.map((step, place) => crumb(step, steps.slice(0, place + 1).join("/")))];
}

/** Shows what a file is, when it has been looked at for a moment. */
function showCard(card, name, facts) {
  clearTimeout(card.cvlTimer);
  card.dataset.name = name ?? "";
  if (!name) return void card.replaceChildren();
  card.cvlTimer = setTimeout(async () => {
    const answer = await facts(name);
    if (card.dataset.name === name && card.isConnected) card.replaceChildren(...cardOf(answer, name));
  }, LOOK_MS);
}
