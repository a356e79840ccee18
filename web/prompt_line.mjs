// The words of the line under a prompt, and its parts on the page. Text is only ever set as text.
import { sentText } from "./dynamic.mjs";
import { element } from "./prompt_panel.mjs";
import { t } from "./words.mjs";

/** The line's button and the panel it opens, in one box. */
export function makeParts() {
  const made = (tag, name) => Object.assign(element(tag), { className: `cvl-prompt-${name}` });
  const [box, button, panel] = [made("div", "box"), made("button", "count"), made("div", "panel")];
  const [figures, note, more] = ["figures", "note", "more"].map((name) => made("span", name));
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  panel.style.display = "none";
  panel.addEventListener("wheel", (event) => event.stopPropagation()); // scrolls the panel, does not zoom the canvas
  figures.textContent = "…"; // until the server has answered
  button.append(figures, note, more);
  box.append(button, panel);
  return { box, button, panel, figures, note, more };
}

/** What of a prompt is counted, and notes on what the front end changes before it sends it. */
export function counted(typed, isDynamic) {
  if (!isDynamic) return { text: typed, notes: [] };
  const { text, drawn, cut } = sentText(typed);
  const notes = [];
  if (drawn) notes.push(t("{a|b} is drawn anew at each Run; counted here with the first of each"));
  if (cut) notes.push(t("// and /* */ are left out"));
  return { text, notes };
}

/** "23 / 75 tokens · 1 chunk", "151 tokens · 3 chunks (75 + 75 + 1)". */
export function countText({ tokens, limit, chunks, encoder }) {
  const each = chunks.slice(0, 8).map((chunk) => chunk.used).join(" + ") + (chunks.length > 8 ? " + …" : "");
  const count = chunks.length > 1 ? t("{} tokens · {} chunks ({})", tokens, chunks.length, each)
    : t("{} / {} tokens · 1 chunk", tokens, limit);
  return encoder ? `${count} · ${encoder}` : count;
}

/** Shows a text and the notes on it; the first note in words, the others as a number. */
export function showLine({ button, figures, note, more }, text, notes) {
  figures.textContent = text;
  note.textContent = notes.length ? ` · ⚠ ${notes[0]}` : "";
  more.textContent = notes.length > 1 ? ` (+${notes.length - 1})` : "";
  button.title = [text, ...notes, t("Click: show or hide the tokens and all notes.")].join("\n");
  button.toggleAttribute("data-noted", notes.length > 0);
  button.removeAttribute("data-waiting");
}
