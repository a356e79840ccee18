// LoRA Stack's list as rows. The text is the one truth: rows are read from it, and each edit writes it.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chain } from "./chain.mjs";
import { addOwnWidget } from "./dom_widget.mjs";
import { ask, factsOf } from "./lora_ask.mjs";
import { dragRow } from "./lora_drag.mjs";
import * as lines from "./lora_lines.mjs";
import { keepMeant, keptRun, meantBy, onUntold, ranOf, ranReported } from "./lora_marks.mjs";
import { openPicker } from "./lora_picker.mjs";
import { classed, openProblem } from "./lora_popups.mjs";
import { makeRow } from "./lora_rows.mjs";
import { HEAD_PX, MARGIN_PX, measure, rowsShown, showText } from "./lora_size.mjs";
import { openWords } from "./lora_words.mjs";
import { keptOf } from "./report_memory.mjs";
import { loadWords, t } from "./words.mjs";

const NODE = "CVL_LoRAStack";
const TEXT = "loras";
const LOOK_MS = 100, PAUSE_MS = 250; // after the last change, before the server is asked

const editorOf = new WeakMap(); // node -> its editor
const shown = new Set(); // the editors of nodes that are in a graph
const asText = new Set(); // ids of the nodes that were switched to text, kept while the page is open

function makeEditor(node, widget) {
  const box = classed("div", "cvl-loras");
  const add = classed("button", "cvl-add", "+ LoRA"), count = classed("span", "cvl-count");
  const modes = classed("span", "cvl-modes"), all = classed("button", "cvl-switch cvl-every");
  const [rowsButton, textButton] = ["rows", "text"].map((mode) => {
    const made = classed("button", "", mode === "rows" ? t("rows") : t("text"));
    made.title = mode === "rows" ? t("the list as rows") : t("the list as plain text");
    made.addEventListener("click", () => setMode(editor, mode === "text"));
    return made;
  });
  const list = classed("div", "cvl-list"), head = classed("div", "cvl-head");
  modes.append(rowsButton, textButton);
  all.setAttribute("role", "switch");
  all.title = t("all on or all off");
  all.addEventListener("click", () => {
    const on = all.getAttribute("aria-checked") !== "true";
    write(editor, lines.switchLines(editor.text, () => on));
  });
  head.append(add, all, count, modes);
  box.append(head, list);
  const editor = {
    node, widget, box, add, all, count, list, rowsButton, textButton, rows: [], marks: new Map(), files: new Map(),
    ran: new Map(), text: null, linked: null, isText: null, asked: null, changedAt: 0, height: HEAD_PX, fitted: 0, blocksOpen: -1, // the place opened, if any
    typed: false, stale: false, pressed: false, // typing goes on; rows are behind the text; a button is held
  };
  add.addEventListener("click", () => pick(editor, null, add));
  box.addEventListener("pointerdown", () => { // a row that is made anew between press and release gets no click
    editor.pressed = true;
    const released = () => setTimeout(() => (editor.pressed = false));
    const once = { capture: true, once: true };
    for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, released, once);
  }, true);
  list.addEventListener("wheel", (event) => list.scrollHeight > list.clientHeight && event.stopPropagation());
  const height = () => editor.height + 2 * MARGIN_PX;
  editor.own = addOwnWidget(node, "cvl_loras", "cvl_loras", box, {
    margin: MARGIN_PX,
    getMinHeight: height,
    getMaxHeight: () => (rowsShown(editor) ? undefined : height()),
  });
  node.widgets.splice(node.widgets.indexOf(editor.own), 1);
  node.widgets.splice(node.widgets.indexOf(widget), 0, editor.own);
  return editor;
}

const writtenAt = ({ text }, place) => lines.splitLines(text)[place]?.written ?? "";
const markAt = (editor, place) => meantBy(editor, writtenAt(editor, place));

function isLinked({ node }) {
  const slot = node.inputs?.findIndex((input) => input.widget?.name === TEXT) ?? -1;
  return slot >= 0 && node.isInputConnected(slot);
}

/** Looks whether anything has changed. Frontends tell of changes each in their own way (typing, undo, links, Vue nodes,
 * other extensions), so the values themselves are looked at. */
function look(editor) {
  const { node, widget } = editor;
  const text = String(widget.value ?? ""), linked = isLinked(editor), isText = asText.has(String(node.id));
  if (text !== editor.text || linked !== editor.linked || isText !== editor.isText) {
    if (editor.pressed) return;
    Object.assign(editor, { linked, isText });
    if (text !== editor.text) Object.assign(editor, { text, blocksOpen: -1, changedAt: performance.now() });
    render(editor);
  } else if (editor.stale && !editor.pressed && !editor.list.querySelector("input:focus")) {
    render(editor);
  }
  const reported = keptOf(node)?.text;
  if (reported !== editor.reported) noteRun(editor, ranReported(editor.reported = reported));
  if (widget.hidden) widget.y = editor.own.y; // its socket is drawn there, beside the rows
  if (!linked && editor.asked !== editor.text && performance.now() - editor.changedAt >= PAUSE_MS) check(editor);
}

/** Asks what each line means. */
async function check(editor) {
  const text = (editor.asked = editor.text);
  const answer = await ask("loras", { text });
  if (text !== editor.asked || !answer?.lines) return; // a newer question, no server, or too long a list
  keepMeant(editor, lines.splitLines(text).map((line) => line.written), answer.lines);
  mark(editor);
}

function mark(editor) {
  const written = lines.splitLines(editor.text);
  for (const { row, place } of editor.rows) {
    row.mark(meantBy(editor, written[place].written), editor.ran.get(written[place].written));
  }
}

/** Marks the rows with what a run made of them. */
function noteRun(editor, ran) {
  if (!editor || !ran) return;
  editor.ran = ran;
  if (editor.text !== null) mark(editor);
}

function setMode(editor, isText) {
  asText[isText ? "add" : "delete"](String(editor.node.id));
  look(editor);
}

function render(editor) {
  const { list } = editor;
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const focus = focused && [focused.closest("[data-place]")?.dataset.place, focused.dataset.field];
  const read = editor.linked ? [] : lines.readList(editor.text);
  editor.rows = rowsShown(editor) ? read.map((line, place) => ({ line, place, row: rowOf(editor, line, place) })) : [];
  const empty = rowsShown(editor) && read.every((line) => line.kind === "blank");
  list.replaceChildren(...editor.rows.map(({ row }) => row.element));
  if (empty) list.append(classed("div", "cvl-empty", t("no LoRA in the list; what is connected is passed on as it is")));
  const loras = read.filter((line) => line.kind === "lora");
  const on = loras.filter((line) => line.on).length;
  editor.count.textContent = editor.linked ? t("comes from a link") : t("{} of {} on", on, loras.length);
  editor.all.setAttribute("aria-checked", on && on < loras.length ? "mixed" : String(on > 0));
  editor.all.style.display = rowsShown(editor) && loras.length ? "" : "none";
  editor.add.style.display = rowsShown(editor) ? "" : "none";
  list.style.display = rowsShown(editor) ? "" : "none";
  editor.rowsButton.setAttribute("aria-pressed", String(!editor.isText));
  editor.textButton.setAttribute("aria-pressed", String(editor.isText));
  editor.stale = editor.typed = false;
  showText(editor, !rowsShown(editor));
  mark(editor);
  measure(editor);
  if (focus) refocus(editor, ...focus);
}

function refocus(editor, place, field) {
  editor.list.querySelector(`[data-place="${place}"] [data-field="${field}"]`)?.focus({ preventScroll: true });
}

/** Writes the text, as one step to undo. While one types, the rows stay, and the step is made at the end. */
function write(editor, text, typing = false) {
  if (!typing) app.canvas.emitBeforeChange?.();
  if (text !== editor.text) {
    Object.assign(editor, { text, changedAt: performance.now(), typed: typing, stale: true });
    editor.widget.value = text;
  }
  if (!typing) {
    render(editor); // with the node's new height
    app.canvas.emitAfterChange?.();
  }
  return true;
}

/** Typing has ended: the rows are made anew when nothing in them is in use. */
function done(editor) {
  if (!editor.typed) return;
  editor.typed = false;
  app.canvas.emitBeforeChange?.();
  app.canvas.emitAfterChange?.();
}

function rowOf(editor, line, place) {
  const act = {
    now: () => lines.readList(editor.text)[place] ?? line,
    edit(change, typing) {
      const edited = lines.editLine(writtenAt(editor, place), change);
      return edited !== null && write(editor, lines.replaceLine(editor.text, place, edited), typing);
    },
    write: (text, typing) => lines.splitLines(`${text}\n`).length === 1
      && write(editor, lines.replaceLine(editor.text, place, text), typing),
    done: () => done(editor),
    remove: () => write(editor, lines.removeLine(editor.text, place)),
    double: () => write(editor, lines.duplicateLine(editor.text, place)),
    solo: () => write(editor, lines.soloLine(editor.text, place)),
    moveBy: (step) => move(editor, place, neighbour(editor, place, step)),
    drag: (event) => dragRow(event, editor.rows.map(({ row }) => row.element), place, (to) =>
      editor.text === String(editor.widget.value) && move(editor, place, to)),
    pick: (anchor) => pick(editor, place, anchor, line.name),
    words: (anchor) => words(editor, place, anchor),
    openBlocks() {
      editor.blocksOpen = editor.blocksOpen === place ? -1 : place;
      render(editor);
      if (editor.blocksOpen === place) refocus(editor, place, "blocks");
    },
  };
  return makeRow(line, act, { blocksOpen: editor.blocksOpen === place });
}

/** The next place that has a row, over empty lines. */
function neighbour(editor, place, step) {
  let next = place + step;
  while (editor.rows[next]?.line.kind === "blank") next += step;
  return editor.rows[next] ? next : place;
}

function move(editor, from, to) {
  if (from === to) return;
  write(editor, lines.moveLine(editor.text, from, to));
  refocus(editor, to, "handle");
}

/** Chooses a name for a row, or for new ones where there is no place yet. */
function pick(editor, place, anchor, current) {
  openPicker(anchor, {
    current: markAt(editor, place)?.file ?? current,
    many: place === null,
    names: ask("loras", { menu: true }).then((answer) => answer?.menu ?? []),
    facts: factsOf,
    canWrite: (name) => lines.lineOf(name) !== null,
    then: () => (place === null ? editor.add : editor.list.querySelector(`[data-place="${place}"] [data-field="name"]`))
      ?.focus({ preventScroll: true }),
    choose(name) {
      const written = place === null ? lines.lineOf(name) : lines.editLine(writtenAt(editor, place), { name });
      if (written === null) return;
      if (place !== null) return void write(editor, lines.replaceLine(editor.text, place, written));
      write(editor, lines.addLine(editor.text, written));
      editor.list.scrollTop = editor.list.scrollHeight;
    },
  });
}

/** What the file of a row says of itself, and what is wrong with the row. */
function words(editor, place, anchor) {
  const { file: name, problem } = markAt(editor, place) ?? {};
  const ran = editor.ran.get(writtenAt(editor, place));
  const said = problem ?? (["failed", "partly"].includes(ran?.state) ? ran.sentence : "");
  const then = () => refocus(editor, place, "words");
  if (!name) return void openProblem(anchor, { sentence: said || t("this line cannot be followed"), then });
  const { words: chosen } = lines.readLine(writtenAt(editor, place));
  const choose = (wanted) => {
    const edited = lines.editWords(writtenAt(editor, place), wanted);
    return edited !== null && write(editor, lines.replaceLine(editor.text, place, edited));
  };
  openWords(anchor, { name, facts: factsOf(name), chosen, choose, problem: said, then });
}

app.registerExtension({
  name: "clip-vae-lora.lora-editor",
  init: loadWords,
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    chain(nodeType.prototype, "onAdded", (node) => {
      const editor = editorOf.get(node);
      if (!editor) return;
      shown.add(editor);
      noteRun(editor, keptRun(node));
    });
    chain(nodeType.prototype, "onRemoved", (node) => shown.delete(editorOf.get(node)));
    chain(nodeType.prototype, "onExecuted", (node, message) => noteRun(editorOf.get(node), ranOf(message)));
    const { getTitle } = nodeType.prototype;
    nodeType.prototype.getTitle = function () { // of a collapsed node it is cut off at its end
      const title = getTitle?.call(this) ?? this.title, editor = editorOf.get(this);
      return editor && this.flags?.collapsed && !editor.linked ? `${editor.count.textContent} · ${title}` : title;
    };
    // a widget without a value leaves a hole in the list of values, which the frontend would not skip when it loads it
    chain(nodeType.prototype, "onSerialize", (node, saved) => {
      if (Array.isArray(saved.widgets_values)) saved.widgets_values = saved.widgets_values.filter(() => true);
    });
  },
  nodeCreated(node) {
    const widget = node.widgets?.find((other) => other.name === TEXT);
    if (node.comfyClass !== NODE || !widget || !node.addDOMWidget) return;
    const editor = makeEditor(node, widget);
    editorOf.set(node, editor);
    look(editor);
    const [width, height] = node.computeSize();
    node.setSize([Math.max(width, node.size[0]), (editor.fitted = height)]);
  },
  onNodeOutputsUpdated(outputs) {
    shown.forEach((editor) => noteRun(editor, keptRun(editor.node, outputs)));
  },
  refreshComboInNodes() {
    shown.forEach((editor) => (editor.asked = null));
  },
  setup() {
    const href = new URL("./lora_editor.css", import.meta.url).href;
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
    setInterval(() => document.hidden || shown.forEach(look), LOOK_MS);
    onUntold((id, ran) => shown.forEach((editor) => {
      if (String(editor.node.id) === id) noteRun(editor, ran(editor.text ?? ""));
    }));
    api.addEventListener("reconnected", () => shown.forEach((editor) => (editor.asked = null)));
  },
});
