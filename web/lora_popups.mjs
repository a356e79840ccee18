// What opens beside a row of the LoRA editor: a box, the row's actions, and what is wrong. They lie over the page, so
// that they are not cut off by the node. Names and words are anybody's: they are only set as text.
import { element } from "./prompt_panel.mjs";
import { t, translated } from "./words.mjs";

const GAP_PX = 3;
const EDGE_PX = 8;

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
  const escape = (event) => { // wherever the focus is: what had it may have been made anew
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
  };
  const close = () => {
    if (closeOpen !== close) return;
    document.removeEventListener("keydown", escape, true);
    closeOpen = null;
    for (const kind of ["pointerdown", "wheel"]) document.removeEventListener(kind, outside, true);
    window.removeEventListener("resize", close);
    box.remove();
    then();
  };
  const early = { capture: true, passive: true };
  for (const kind of ["pointerdown", "wheel"]) document.addEventListener(kind, outside, early);
  window.addEventListener("resize", close);
  document.addEventListener("keydown", escape, true);
  box.addEventListener("keydown", (event) => event.stopPropagation()); // no shortcuts of the canvas
  closeOpen = close;
  place();
  return { close, place };
}

/** A name with its folder and its extension paler. */
export function namePieces(name) {
  const [, folder, stem, extension] = /^(.*[\\/])?(.*?)(\.(?:safetensors|ckpt|pt|pth|bin|sft))?$/su.exec(name);
  const pale = (text) => classed("span", "cvl-pale", text ?? "");
  return [pale(folder), classed("span", "", stem), pale(extension)];
}

/** What is wrong with a line. */
export function openProblem(anchor, { sentence, then }) {
  const content = classed("div", "cvl-words", `⚠ ${translated(sentence)}`);
  content.tabIndex = -1;
  openPopup(anchor, content, { width_px: 300, label: t("what is wrong with this line"), then });
  content.focus({ preventScroll: true });
}

/** The actions of a row where the pointer is: [{text, field, run, off}]; by mouse, or arrow keys and Enter. */
export function openActions({ clientX: x, clientY: y }, actions, label) {
  const content = classed("div", "cvl-actions");
  content.setAttribute("role", "menu");
  const at = { getBoundingClientRect: () => ({ left: x, right: x, top: y, bottom: y, width: 0 }) };
  const popup = openPopup(at, content, { width_px: 190, label });
  const items = actions.map(({ text, field, run, off }) => {
    const item = classed("button", "cvl-action", text);
    item.setAttribute("role", "menuitem");
    item.dataset.action = field;
    item.disabled = Boolean(off);
    item.addEventListener("click", () => {
      popup.close();
      run();
    });
    return item;
  });
  content.append(...items);
  content.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const usable = items.filter((item) => !item.disabled), now = usable.indexOf(document.activeElement);
    usable[(now + step + usable.length) % usable.length]?.focus();
  });
  popup.place();
  items.find((item) => !item.disabled)?.focus({ preventScroll: true });
}
