// A strength in a row: typed, dragged, turned with the wheel while it is being edited, or stepped by - and + and keys.
import { readNumber } from "./lora_lines.mjs";
import { classed } from "./lora_popups.mjs";
import { t } from "./words.mjs";

const STEP = 0.05;
const FINE = 0.01;
const LIMIT = 100;
const PX_PER_STEP = 5;
const STILL_PX = 3; // a press that moves no further is a click

/** A button of a row. */
export function button(name, text, label, field, click) {
  const made = classed("button", name, text);
  made.title = label;
  made.setAttribute("aria-label", label.split("\n")[0]);
  made.dataset.field = field;
  if (click) made.addEventListener("click", click);
  return made;
}

/**
 * The CLIP's strength follows the MODEL's until it is another, and is shown small as long as it does; whether it does is
 * settled when one begins to change it. `follower` is the CLIP's, for the MODEL's.
 */
export function strength(line, act, which, follower) {
  const box = classed("div", "cvl-strength"), field = classed("input", "");
  let value = line[which], linked = line.model === line.clip;
  box.classList.toggle("cvl-linked", which === "clip" && linked);
  box.title = which === "model" ? t("strength on the MODEL; drag it, or use the arrow keys or the wheel")
    : t("strength on the CLIP; drag it, or use the arrow keys or the wheel")
      + (linked ? `\n${t("The same as the MODEL's until you change it.")}` : "");
  Object.assign(field, { type: "text", inputMode: "decimal", value: shownNumber(value), autocomplete: "off" });
  field.setAttribute("aria-label", which === "model" ? t("strength on the MODEL") : t("strength on the CLIP"));
  field.dataset.field = which;
  field.dataset.captureWheel = "true"; // Vue nodes leave the wheel to such a field while it is in use
  const begin = () => {
    const now = act.now();
    [value, linked] = [now[which], now.model === now.clip];
  };
  const take = (number, typing) => {
    value = number;
    act.edit(follower && linked ? { model: number, clip: number } : { [which]: number }, typing);
    if (follower && linked) follower.querySelector("input").value = shownNumber(number);
  };
  const step = (by, typing = true) => {
    take(Math.max(-LIMIT, Math.min(LIMIT, Math.round((value + by) * 1e4) / 1e4)), typing);
    field.value = shownNumber(value);
    field.classList.remove("cvl-bad");
  };
  field.addEventListener("focus", () => {
    begin();
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
    step(direction * stepOf(event));
    field.select();
  });
  field.addEventListener("wheel", (event) => { // of a field that is not in use, the wheel is the canvas's
    if (document.activeElement !== field || !event.deltaY) return;
    event.preventDefault();
    event.stopPropagation();
    step(-Math.sign(event.deltaY) * stepOf(event));
  }, { passive: false });
  drags(field, act, { begin, step });
  finishes(field, act, () => shownNumber(act.now()[which]));
  const by = (sign, text) => {
    const made = button("cvl-step", text, sign < 0 ? t("less") : t("more"), `${which}${text}`, (event) => {
      begin();
      step(sign * stepOf(event), false);
    });
    made.tabIndex = -1; // the arrow keys do the same
    return made;
  };
  box.append(classed("span", "cvl-pale", which === "model" ? "M" : "C"), by(-1, "−"), field, by(1, "+"));
  return box;
}

const stepOf = (event) => (event.shiftKey ? 10 * STEP : event.altKey ? FINE : STEP);

function shownNumber(value) {
  return value === Math.round(value * 100) / 100 ? value.toFixed(2) : String(value);
}

/** Dragging to the left or right changes a field that is not being typed in; a press alone begins to type. */
function drags(field, act, { begin, step }) {
  let from = null, steps = 0, moved = false;
  field.addEventListener("mousedown", (event) => {
    if (document.activeElement !== field && event.button === 0) event.preventDefault(); // not yet the focus
  });
  field.addEventListener("pointerdown", (event) => {
    if (document.activeElement === field || event.button !== 0) return;
    document.activeElement?.blur?.();
    [from, steps, moved] = [event.clientX, 0, false];
    field.setPointerCapture(event.pointerId);
    begin();
  });
  field.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const by = event.clientX - from;
    moved ||= Math.abs(by) > STILL_PX;
    const wanted = moved ? Math.trunc(by / PX_PER_STEP) : 0;
    if (wanted !== steps) step((wanted - steps) * (event.altKey ? FINE : STEP));
    steps = wanted;
  });
  const end = ({ type }) => {
    if (from === null) return;
    from = null;
    if (moved) act.done();
    else if (type === "pointerup") field.focus({ preventScroll: true });
  };
  for (const kind of ["pointerup", "pointercancel"]) field.addEventListener(kind, end);
}

/** Enter ends the typing. The text has what was typed all along; what it could not take is shown no longer. */
export function finishes(field, act, value) {
  field.addEventListener("change", () => act.done());
  field.addEventListener("blur", () => {
    act.done();
    if (!field.isConnected) return; // the rows were made anew
    field.value = value() ?? "";
    field.classList.remove("cvl-bad");
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) field.blur();
  });
}
