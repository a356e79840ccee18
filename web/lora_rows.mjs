// One line of the list of LoRAs as a row: switch, name, two strengths, blocks, and what is wrong with it. A row knows
// its line and calls `act`; what becomes of the text is decided there.
import { readNumber } from "./lora_lines.mjs";
import { classed, namePieces } from "./lora_popups.mjs";

export const LINE_PX = 26;
const MORE_PX = 24;
const BLANK_PX = 6;
const STEP = 0.05;
const LIMIT = 100;

/**
 * A row: {element, height_px, mark(result)}. What is wrong takes no room of its own, so that the height is known from
 * the text alone. `line` is as readList has it; `act` has now() (the line as it is by now), edit(change, typing),
 * write(text, typing), done(), remove(), moveBy(lines), drag(event), pick(anchor), words(anchor), openBlocks().
 */
export function makeRow(line, act, { blocksOpen }) {
  const row = classed("div", `cvl-row cvl-${line.kind}`);
  row.dataset.place = line.number - 1;
  if (line.kind === "blank") return { element: row, height_px: BLANK_PX, mark: () => {} };
  const isLora = line.kind === "lora";
  const bar = classed("div", "cvl-bar"), cell = classed("div", "cvl-cell"), problem = classed("div", "cvl-problem");
  const words = button("cvl-icon cvl-info", "i", "trigger words", "words", () => act.words(words));
  cell.append(isLora ? nameButton(line, act) : textField(line, act), problem);
  bar.append(handle(line, act), ...(isLora ? [onSwitch(line, act)] : []), cell);
  if (isLora) {
    const clip = strength(line, act, "clip");
    const blocks = button("cvl-icon", "▦", "strengths by block", "openBlocks", () => act.openBlocks());
    bar.append(strength(line, act, "model", clip), clip, words, blocks);
  } else if (line.kind === "broken") {
    bar.append(words);
  }
  bar.append(button("cvl-icon", "✕", `remove line ${line.number}`, "remove", () => act.remove()));
  row.append(bar);
  const more = isLora && (line.blocks || line.comment || blocksOpen);
  if (more) row.append(moreLine(line, act, line.blocks || blocksOpen));
  row.classList.toggle("cvl-off", isLora && !line.on);
  return {
    element: row,
    height_px: LINE_PX + (more ? MORE_PX : 0),
    mark(result) {
      const sentence = result?.problem ?? (line.kind === "broken" ? "this line cannot be followed" : "");
      problem.textContent = problem.title = sentence;
      row.classList.toggle("cvl-wrong", Boolean(sentence));
      words.textContent = sentence ? "!" : "i";
      words.title = sentence || "trigger words";
      words.disabled = !sentence && !result?.file;
    },
  };
}

function button(name, text, label, field, click) {
  const made = classed("button", name, text);
  made.title = label;
  made.setAttribute("aria-label", label.split("\n")[0]);
  made.dataset.field = field;
  if (click) made.addEventListener("click", click);
  return made;
}

function handle(line, act) {
  const made = button("cvl-handle", "⠿", `move line ${line.number}\nDrag it, or press the arrow keys.`, "handle");
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
  const made = button("cvl-switch", "", line.on ? "on; click to switch it off" : "off; click to switch it on", "on",
    () => act.edit({ on: !line.on }));
  made.setAttribute("role", "switch");
  made.setAttribute("aria-checked", String(line.on));
  made.setAttribute("aria-label", `${line.name} on`);
  return made;
}

function nameButton(line, act) {
  const made = button("cvl-name", "", `${line.name}\nClick to choose another.`, "name", () => act.pick(made));
  made.append(...namePieces(line.name));
  made.setAttribute("aria-haspopup", "listbox");
  return made;
}

/** The CLIP's strength follows the MODEL's until it is another; whether it does is settled when one begins to type. */
function strength(line, act, which, follower) {
  const label = classed("label", "cvl-strength");
  const field = classed("input", "");
  const letter = classed("span", "cvl-pale", which === "model" ? "M" : "C");
  let value = line[which], linked = line.model === line.clip;
  label.classList.toggle("cvl-linked", which === "clip" && linked);
  label.title = which === "model" ? "strength on the MODEL; arrow keys change it"
    : `strength on the CLIP; arrow keys change it${linked ? "\nThe same as the MODEL's until you change it." : ""}`;
  Object.assign(field, { type: "text", inputMode: "decimal", value: shownNumber(value), autocomplete: "off" });
  field.setAttribute("aria-label", `strength on the ${which === "model" ? "MODEL" : "CLIP"}`);
  field.dataset.field = which;
  const take = (number, typing) => {
    value = number;
    act.edit(follower && linked ? { model: number, clip: number } : { [which]: number }, typing);
    if (follower && linked) follower.querySelector("input").value = shownNumber(number);
  };
  field.addEventListener("focus", () => {
    const now = act.now();
    [value, linked] = [now[which], now.model === now.clip];
    field.select();
  });
  field.addEventListener("input", () => {
    const number = readNumber(field.value);
    field.classList.toggle("cvl-bad", Number.isNaN(number));
    if (!Number.isNaN(number)) take(number, true);
  });
  field.addEventListener("keydown", (event) => {
    const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    event.stopPropagation();
    const next = Math.round((value + direction * STEP * (event.shiftKey ? 10 : 1)) * 1e4) / 1e4;
    take(Math.max(-LIMIT, Math.min(LIMIT, next)), true);
    field.value = shownNumber(value);
    field.classList.remove("cvl-bad");
    field.select();
  });
  finishes(field, act, () => shownNumber(act.now()[which]));
  label.append(letter, field);
  return label;
}

function shownNumber(value) {
  return value === Math.round(value * 100) / 100 ? value.toFixed(2) : String(value);
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
    label.append(classed("span", "cvl-pale", "blocks"), field);
    made.append(label);
  }
  if (line.comment) {
    const comment = classed("span", "cvl-comment-behind", line.comment);
    comment.title = line.comment;
    made.append(comment);
  }
  return made;
}

/** A line that is a comment, or none that can be followed: its text as it is. */
function textField(line, act) {
  const field = classed("input", "cvl-text");
  Object.assign(field, { type: "text", value: line.written, spellcheck: false, autocomplete: "off" });
  field.setAttribute("aria-label", `line ${line.number}`);
  field.dataset.field = "text";
  field.addEventListener("input", () => field.classList.toggle("cvl-bad", !act.write(field.value, true)));
  finishes(field, act, () => act.now().written);
  return field;
}

/** Enter ends the typing. The text has what was typed all along; what it could not take is shown no longer. */
function finishes(field, act, value) {
  field.addEventListener("change", () => act.done());
  field.addEventListener("blur", () => {
    if (!field.isConnected) return; // the rows were made anew
    field.value = value() ?? "";
    field.classList.remove("cvl-bad");
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) field.blur();
  });
}
