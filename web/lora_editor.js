// LoRA Stack's list as rows. The text is the one truth: rows are read from it, and each edit writes it.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chain } from "./chain.mjs";
import { addOwnWidget } from "./dom_widget.mjs";
import { dragRow } from "./lora_drag.mjs";
import * as lines from "./lora_lines.mjs";
import { classed, openMenu, openProblem, openWords } from "./lora_popups.mjs";
import { LINE_PX, makeRow } from "./lora_rows.mjs";

const NODE = "CVL_LoRAStack";
const TEXT = "loras";
const LOOK_MS = 100, PAUSE_MS = 250; // after the last change, before the server is asked
const HEAD_PX = 24, MARGIN_PX = 4;
const TEXT_PX = 70; // more than the least, for the text
const MOST_PX = 14 * LINE_PX; // longer lists scroll

const editorOf = new WeakMap(); // node -> its editor
const shown = new Set(); // the editors of nodes that are in a graph
const asText = new Set(); // ids of the nodes that were switched to text, kept while the page is open

/** What the server answers, or null. */
async function ask(route, question) {
  try {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify(question);
    return await (await api.fetchApi(`/clip_vae_lora/${route}`, { method: "POST", headers, body })).json();
  } catch {
    return null; // no server, or no such route
  }
}

function makeEditor(node, widget) {
  const box = classed("div", "cvl-loras");
  const add = classed("button", "cvl-add", "+ LoRA"), count = classed("span", "cvl-count");
  const modes = classed("span", "cvl-modes");
  const [rowsButton, textButton] = ["rows", "text"].map((mode) => {
    const made = classed("button", "", mode);
    made.title = mode === "rows" ? "the list as rows" : "the list as plain text";
    made.addEventListener("click", () => setMode(editor, mode === "text"));
    return made;
  });
  const list = classed("div", "cvl-list"), head = classed("div", "cvl-head");
  modes.append(rowsButton, textButton);
  head.append(add, count, modes);
  box.append(head, list);
  const editor = {
    node, widget, box, add, count, list, rowsButton, textButton, rows: [], marks: new Map(), text: null, linked: null,
    isText: null, asked: null, changedAt: 0, height: HEAD_PX, fitted: 0, blocksOpen: -1, // the place opened, if any
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

const rowsShown = (editor) => !editor.isText && !editor.linked;
const writtenAt = ({ text }, place) => lines.splitLines(text)[place]?.written ?? "";
const markAt = (editor, place) => editor.marks.get(writtenAt(editor, place));

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
  if (widget.hidden) widget.y = editor.own.y; // its socket is drawn there, beside the rows
  if (!linked && editor.asked !== editor.text && performance.now() - editor.changedAt >= PAUSE_MS) check(editor);
}

/** Asks what each line means; what the answer says is kept by the line's own text, so that moved lines keep it. */
async function check(editor) {
  const text = (editor.asked = editor.text);
  const answer = await ask("loras", { text });
  if (text !== editor.asked || !answer?.lines) return; // a newer question, no server, or too long a list
  const written = lines.splitLines(text).map((line) => line.written);
  editor.marks = new Map(answer.lines.map((line) => [written[line.number - 1], line]));
  mark(editor);
}

function mark(editor) {
  const written = lines.splitLines(editor.text);
  for (const { row, place } of editor.rows) row.mark(editor.marks.get(written[place].written));
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
  if (empty) list.append(classed("div", "cvl-empty", "no LoRA in the list; what is connected is passed on as it is"));
  const loras = read.filter((line) => line.kind === "lora");
  editor.count.textContent = editor.linked ? "comes from a link"
    : `${loras.filter((line) => line.on).length} of ${loras.length} on`;
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

/** Shows the text, and of the editor the head alone; or hides it, and shows the rows. */
function showText({ node, widget, own }, on) {
  if (Boolean(widget.hidden) === !on && Object.hasOwn(own, "computeSize") === on) return;
  widget.hidden = widget.options.hidden = !on;
  // no room: frontend 1.27 counts hidden widgets; -4 is the gap that it puts between two
  if (on) delete widget.computeSize;
  else widget.computeSize = () => [0, -4];
  // a widget with this has just its height, in Vue nodes too if it has no layout size
  if (on) Object.assign(own, { computeSize: () => [0, HEAD_PX + 2 * MARGIN_PX], computeLayoutSize: undefined });
  else for (const name of ["computeSize", "computeLayoutSize"]) delete own[name];
  const place = node.widgets.indexOf(widget); // Vue nodes look again when the list of widgets changes
  node.widgets.splice(place, 1);
  node.widgets.splice(place, 0, widget);
}

/** The height that the rows need; the node follows it where it was just as high as it had to be. */
function measure(editor) {
  const { node, box, rows } = editor;
  const all = rows.reduce((sum, { row }) => sum + row.height_px, 0);
  editor.height = HEAD_PX + (rowsShown(editor) ? Math.max(LINE_PX, Math.min(MOST_PX, all)) + 4 : 0);
  box.style.minHeight = `${editor.height}px`;
  const [width, computed] = node.computeSize();
  const least = computed + (rowsShown(editor) ? 0 : TEXT_PX);
  const [, now] = node.size;
  const follows = Math.abs(now - editor.fitted) < 2 && rowsShown(editor);
  if (now < least || (follows && now > least)) node.setSize([Math.max(width, node.size[0]), least]);
  if (now <= least + 1 || follows) editor.fitted = least;
  node.setDirtyCanvas?.(true, true);
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

/** Chooses a name for a row, or for a new one where there is no place yet. */
function pick(editor, place, anchor, current) {
  openMenu(anchor, {
    current: markAt(editor, place)?.file ?? current,
    names: ask("loras", { menu: true }).then((answer) => answer?.menu ?? []),
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

/** What the file of a row says of itself, or what is wrong with the row. */
function words(editor, place, anchor) {
  const { file: name, problem } = markAt(editor, place) ?? {};
  const then = () => refocus(editor, place, "words");
  if (name) openWords(anchor, { name, facts: ask("lora_header", { name }), then });
  else openProblem(anchor, { sentence: problem ?? "this line cannot be followed", then });
}

app.registerExtension({
  name: "clip-vae-lora.lora-editor",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    chain(nodeType.prototype, "onAdded", (node) => editorOf.has(node) && shown.add(editorOf.get(node)));
    chain(nodeType.prototype, "onRemoved", (node) => shown.delete(editorOf.get(node)));
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
  refreshComboInNodes() {
    shown.forEach((editor) => (editor.asked = null));
  },
  setup() {
    const href = new URL("./lora_editor.css", import.meta.url).href;
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
    setInterval(() => document.hidden || shown.forEach(look), LOOK_MS);
    api.addEventListener("reconnected", () => shown.forEach((editor) => (editor.asked = null)));
  },
});
