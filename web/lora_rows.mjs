// One line of the list of LoRAs as a row: switch, name, two strengths, blocks, and what is wrong with it. A row knows
// its line and calls `act`; what becomes of the text is decided there.
import { classed, namePieces, openActions } from "./lora_popups.mjs";
import { button, finishes, strength } from "./lora_strength.mjs";
import { t, translated } from "./words.mjs";

export const LINE_PX = 26;
const MORE_PX = 24;
const BLANK_PX = 6;

/**
 * A row: {element, height_px, mark(result, ran)}. What is wrong takes no room of its own, so that the height is known
 * from the text alone. `line` is as readList has it; `act` has now() (the line as it is by now), edit(change, typing),
 * write(text, typing), done(), remove(), moveBy(lines), double(), solo(), drag(event), pick(anchor), words(anchor),
 * openBlocks().
 */
export function makeRow(line, act, { blocksOpen }) {
  const row = classed("div", `cvl-row cvl-${line.kind}`);
  row.dataset.place = line.number - 1;
  if (line.kind === "blank") return { element: row, height_px: BLANK_PX, mark: () => {} };
  const isLora = line.kind === "lora";
  const bar = classed("div", "cvl-bar"), cell = classed("div", "cvl-cell"), problem = classed("div", "cvl-problem");
  const words = button("cvl-icon cvl-info", "i", t("trigger words"), "words", () => act.words(words));
  cell.append(isLora ? nameButton(line, act) : textField(line, act), problem);
  bar.append(handle(line, act), ...(isLora ? [onSwitch(line, act)] : []), cell);
  if (isLora) {
    const clip = strength(line, act, "clip");
    const blocks = button("cvl-icon", "▦", t("strengths by block"), "openBlocks", () => act.openBlocks());
    bar.append(strength(line, act, "model", clip), clip, words, blocks);
  } else if (line.kind === "broken") {
    bar.append(words);
  }
  bar.append(button("cvl-icon", "✕", t("remove line {}", line.number), "remove", () => act.remove()));
  row.append(bar);
  const more = isLora && (line.blocks || line.note || line.words || blocksOpen);
  if (more) row.append(moreLine(line, act, line.blocks || blocksOpen));
  row.classList.toggle("cvl-off", isLora && !line.on);
  row.addEventListener("contextmenu", (event) => {
    if (event.target === document.activeElement && event.target.matches("input")) return; // the browser's own: paste
    event.preventDefault();
    event.stopPropagation();
    openActions(event, actionsOf(line, act, words), t("line {}", line.number));
  });
  return {
    element: row,
    height_px: LINE_PX + (more ? MORE_PX : 0),
    mark: (result, ran) => mark({ row, cell, problem, words, line }, result, ran),
  };
}

/** Marks a row with what is wrong with its line, and with what the last run made of it: red, or amber. */
function mark({ row, cell, problem, words, line }, result, ran) {
  const followed = line.kind === "broken" ? t("this line cannot be followed") : "";
  const failed = result?.problem || (ran?.state === "failed" && ran.sentence) || followed;
  const sentence = translated(failed || (ran?.state === "partly" ? ran.sentence : ""));
  problem.textContent = sentence.split("\n")[0];
  problem.title = sentence;
  row.classList.toggle("cvl-wrong", Boolean(failed));
  row.classList.toggle("cvl-partly", Boolean(sentence) && !failed);
  row.dataset.state = failed ? "failed" : ran?.state ?? "";
  words.textContent = sentence ? "!" : "i";
  words.title = sentence || t("trigger words");
  words.disabled = !sentence && !result?.file;
  const name = cell.querySelector(".cvl-name");
  if (name) name.title = sentence || translated(ran?.sentence) || `${line.name}\n${t("Click to choose another.")}`;
}

function actionsOf(line, act, words) {
  const isLora = line.kind === "lora";
  return [
    isLora && { text: t("Info and trigger words"), field: "words", run: () => act.words(words), off: words.disabled },
    isLora && { text: line.on ? t("Switch off") : t("Switch on"), field: "on", run: () => act.edit({ on: !line.on }) },
    isLora && { text: t("Only this one on"), field: "solo", run: () => act.solo() },
    isLora && { text: t("Strengths by block"), field: "openBlocks", run: () => act.openBlocks() },
    { text: t("Move up"), field: "up", run: () => act.moveBy(-1) },
    { text: t("Move down"), field: "down", run: () => act.moveBy(1) },
    { text: t("Duplicate"), field: "double", run: () => act.double() },
    { text: t("Remove"), field: "remove", run: () => act.remove() },
  ].filter(Boolean);
}

function handle(line, act) {
  const label = `${t("move line {}", line.number)}\n${t("Drag it, or press the arrow keys.")}`;
  const made = button("cvl-handle", "⠿", label, "handle");
  made.addEventListener("pointerdown", (event) => event.button === 0 && act.drag(event));
  made.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    act.moveBy(step);
  });
  return made;
}

function onSwitch(line, act) {
  const label = `${line.on ? t("on; click to switch it off") : t("off; click to switch it on")}\n`
    + t("With Alt: only this one on.");
  const made = button("cvl-switch", "", label, "on", (event) => (event.altKey ? act.solo() : act.edit({ on: !line.on })));
  made.setAttribute("role", "switch");
  made.setAttribute("aria-checked", String(line.on));
  made.setAttribute("aria-label", t("{} on", line.name));
  return made;
}

function nameButton(line, act) {
  const made = button("cvl-name", "", `${line.name}\n${t("Click to choose another.")}`, "name", () => act.pick(made));
  made.append(...namePieces(line.name));
  made.setAttribute("aria-haspopup", "listbox");
  return made;
}

function moreLine(line, act, withBlocks) {
  const made = classed("div", "cvl-more");
  if (withBlocks) {
    const label = classed("label", "cvl-blocks");
    const field = classed("input", "");
    Object.assign(field, { type: "text", value: line.blocks, spellcheck: false, autocomplete: "off" });
    field.placeholder = "attn2: 0.5, IN07-IN08: 0";
    field.dataset.field = "blocks";
    field.addEventListener("input", () => {
      field.classList.toggle("cvl-bad", !act.edit({ blocks: field.value.trim() }, true));
    });
    finishes(field, act, () => act.now().blocks);
    label.append(classed("span", "cvl-pale", t("blocks")), field);
    made.append(label);
  }
  if (line.words) {
    const chosen = line.words.length ? t("words: {}", line.words.join(", ")) : t("no trigger words");
    const words = button("cvl-chosen", chosen, chosen, "chosen", () => act.words(words));
    made.append(words);
  }
  if (line.note) {
    const comment = classed("span", "cvl-comment-behind", line.note);
    comment.title = line.note;
    made.append(comment);
  }
  return made;
}

/** A line that is a comment, or none that can be followed: its text as it is. */
function textField(line, act) {
  const field = classed("input", "cvl-text");
  Object.assign(field, { type: "text", value: line.written, spellcheck: false, autocomplete: "off" });
  field.setAttribute("aria-label", t("line {}", line.number));
  field.dataset.field = "text";
  field.addEventListener("input", () => field.classList.toggle("cvl-bad", !act.write(field.value, true)));
  finishes(field, act, () => act.now().written);
  return field;
}
