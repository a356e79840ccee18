// What opens beside a row of the LoRA editor: the menu of names with a search, and a file's trigger words. They lie
// over the page, so that they are not cut off by the node. Names and words are anybody's: they are only set as text.
import { element } from "./prompt_panel.mjs";

const MOST_SHOWN = 200; // names at a time; the search finds the others
const GAP_PX = 3;
const EDGE_PX = 8;
const COPIED_MS = 1200;

let closeOpen = null;

/** A new element with a class and a text. */
export function classed(tag, name, text = "") {
  const made = element(tag, {}, text);
  made.className = name;
  if (tag === "button") made.type = "button";
  return made;
}

/** Opens a box below its anchor, or above where there is more room; one is open at a time. Returns what closes it. */
export function openPopup(anchor, content, { width_px, label, then = () => {} }) {
  closeOpen?.();
  const box = classed("div", "cvl-popup");
  box.setAttribute("role", "dialog");
  box.setAttribute("aria-label", label);
  box.append(content);
  document.body.append(box);
  const at = anchor.getBoundingClientRect();
  const place = () => {
    const below = window.innerHeight - at.bottom - EDGE_PX, above = at.top - EDGE_PX;
    const up = box.scrollHeight > below && above > below;
    box.style.width = `${width_px}px`;
    box.style.maxHeight = `${Math.max(80, up ? above : below)}px`;
    box.style.left = `${Math.max(EDGE_PX, Math.min(at.left, window.innerWidth - width_px - EDGE_PX))}px`;
    box.style[up ? "bottom" : "top"] = `${up ? window.innerHeight - at.top + GAP_PX : at.bottom + GAP_PX}px`;
    box.style[up ? "top" : "bottom"] = "auto";
  };
  const outside = (event) => box.contains(event.target) || close();
  const close = () => {
    if (closeOpen !== close) return;
    closeOpen = null;
    for (const kind of ["pointerdown", "wheel"]) document.removeEventListener(kind, outside, true);
    window.removeEventListener("resize", close);
    box.remove();
    then();
  };
  const early = { capture: true, passive: true };
  for (const kind of ["pointerdown", "wheel"]) document.addEventListener(kind, outside, early);
  window.addEventListener("resize", close);
  box.addEventListener("keydown", (event) => {
    event.stopPropagation(); // no shortcuts of the canvas
    if (event.key === "Escape") close();
  });
  closeOpen = close;
  place();
  return { close, place };
}

/** The names that have every word of the search, those whose file name begins with it first. */
export function matching(names, search) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = names.filter((name) => words.every((word) => name.toLowerCase().includes(word)));
  const begins = (name) => (words.length && name.toLowerCase().split(/[\\/]/).pop().startsWith(words[0]) ? 0 : 1);
  return found.map((name, place) => [begins(name), place, name]).sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .map(([, , name]) => name);
}

/**
 * A search over a menu. `names` is a promise of them, `canWrite` says which of them the list can hold, `choose` takes
 * the one that is chosen by mouse or keys.
 */
export function openMenu(anchor, { names, current, canWrite, choose, then }) {
  const content = classed("div", "cvl-menu");
  const search = classed("input", "cvl-search");
  const list = classed("div", "cvl-options");
  Object.assign(search, { type: "text", placeholder: "search LoRAs", spellcheck: false, autocomplete: "off" });
  const list_id = `cvl-options-${Math.random().toString(36).slice(2)}`;
  list.id = list_id;
  list.setAttribute("role", "listbox");
  for (const [name, value] of [["role", "combobox"], ["aria-expanded", "true"], ["aria-controls", list_id],
    ["aria-autocomplete", "list"], ["aria-label", "search LoRAs"]]) search.setAttribute(name, value);
  content.append(search, list);
  const width_px = Math.round(Math.min(440, Math.max(280, anchor.getBoundingClientRect().width)));
  const popup = openPopup(anchor, content, { width_px, label: "LoRAs", then });
  let all = null, options = [], active = -1;

  const take = (option) => {
    if (!option || option.disabled) return;
    popup.close();
    choose(option.name);
  };
  const activate = (place) => {
    options[active]?.element.setAttribute("aria-selected", "false");
    active = Math.max(0, Math.min(options.length - 1, place));
    const option = options[active]?.element;
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    search.setAttribute("aria-activedescendant", option?.id ?? "");
  };
  const fill = () => {
    const found = all ? matching(all, search.value) : [];
    options = found.slice(0, MOST_SHOWN).map((name, place) => {
      const option = optionOf(name, name === current, canWrite(name));
      option.element.id = `${list_id}-${place}`;
      option.element.addEventListener("pointermove", () => active === place || activate(place));
      option.element.addEventListener("click", () => take(option));
      return option;
    });
    const rest = found.length - options.length;
    const note = !all ? "…" : !all.length ? "the server did not answer"
      : !found.length ? "no LoRA has that in its name" : rest ? `… and ${rest} more; type to find them` : "";
    list.replaceChildren(...options.map((option) => option.element), classed("div", "cvl-note", note));
    activate(search.value ? 0 : options.findIndex((option) => option.name === current));
    popup.place();
  };
  search.addEventListener("input", fill);
  search.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step) activate(active + step);
    else if (event.key === "Enter" && !event.isComposing) take(options[active]);
    else if (event.key === "Tab") popup.close();
    if (step || event.key === "Enter") event.preventDefault();
  });
  fill();
  search.focus({ preventScroll: true });
  names.then((found) => { all = found; fill(); });
}

function optionOf(name, isCurrent, writable) {
  const made = classed("div", "cvl-option");
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", "false");
  if (isCurrent) made.classList.add("cvl-current");
  if (!writable) made.setAttribute("aria-disabled", "true");
  made.title = writable ? name : `${name}: the list cannot hold this name; rename the file (no ":" and no " #" in it)`;
  made.append(...namePieces(name));
  return { name, element: made, disabled: !writable };
}

/** A name with its folder and its extension paler. */
export function namePieces(name) {
  const [, folder, stem, extension] = /^(.*[\\/])?(.*?)(\.(?:safetensors|ckpt|pt|pth|bin|sft))?$/su.exec(name);
  const pale = (text) => classed("span", "cvl-pale", text ?? "");
  return [pale(folder), classed("span", "", stem), pale(extension)];
}

/** What is wrong with a line. */
export function openProblem(anchor, { sentence, then }) {
  const content = classed("div", "cvl-words", `⚠ ${sentence}`);
  content.tabIndex = -1;
  openPopup(anchor, content, { width_px: 300, label: "what is wrong with this line", then });
  content.focus({ preventScroll: true });
}

/** What the header of a file says: `facts` is a promise of the route's answer. A click on a word copies it. */
export function openWords(anchor, { facts, name, then }) {
  const content = classed("div", "cvl-words");
  content.append(classed("div", "cvl-note", "…"));
  const popup = openPopup(anchor, content, { width_px: 300, label: `what ${name} says of itself`, then });
  content.tabIndex = -1;
  content.focus({ preventScroll: true });
  facts.then((answer) => {
    content.replaceChildren(...wordsParts(answer, name));
    popup.place();
  });
}

function wordsParts(answer, name) {
  const error = answer ? answer.error : "the server did not answer";
  if (error) return [classed("div", "cvl-note", `⚠ ${error}`)];
  const words = answer.trigger_words ?? [];
  const parts = [classed("div", "cvl-title", answer.title || name), classed("div", "cvl-pale", name)];
  if (answer.base_model) parts.push(classed("div", "", `trained on ${answer.base_model}`));
  if (!words.length) return [...parts, classed("div", "cvl-note", "the header names no trigger words")];
  const chips = classed("div", "cvl-chips");
  chips.append(...words.map((word) => chip(word, word, "cvl-chip")));
  parts.push(classed("div", "cvl-note", "trigger words; a click copies"), chips);
  if (words.length > 1) parts.push(chip("copy all", words.join(", "), "cvl-chip cvl-all"));
  return parts;
}

function chip(shown, text, name) {
  const made = classed("button", name, shown);
  made.title = `copy: ${text}`;
  made.addEventListener("click", async () => {
    const done = await copied(text);
    made.dataset.said = done ? "copied" : "not copied: the browser forbids it";
    setTimeout(() => delete made.dataset.said, COPIED_MS);
  });
  return made;
}

/** Browsers give the clipboard to https and localhost; on other addresses the old way still works. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { position: "fixed", opacity: "0" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
