// LoRA Stack's list as rows. The text is the one truth: rows are read from it, and each edit writes it.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addLine, editLine, lineOf, moveLine, readList, removeLine, replaceLine, splitLines } from "./lora_lines.mjs";
import { classed, openMenu, openWords } from "./lora_popups.mjs";
import { LINE_PX, makeRow } from "./lora_rows.mjs";

const NODE = "CVL_LoRAStack";
const TEXT = "loras";
const LOOK_MS = 100;
const PAUSE_MS = 250; // after the last change, before the server is asked
const HEAD_PX = 24;
const MARGIN_PX = 4;
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
  const add = classed("button", "cvl-add", "+ LoRA");
  const count = classed("span", "cvl-count");
  const modes = classed("span", "cvl-modes");
  const [rowsButton, textButton] = ["rows", "text"].map((mode) => {
    const made = classed("button", "", mode);
    made.title = mode === "rows" ? "the list as rows" : "the list as plain text";
    made.addEventListener("click", () => setMode(editor, mode === "text"));
    return made;
  });
  const list = classed("div", "cvl-list"), content = classed("div", "cvl-rows");
  const head = classed("div", "cvl-head");
  modes.append(rowsButton, textButton);
  head.append(add, count, modes);
  list.append(content);
  box.append(head, list);
  const editor = {
    node, widget, box, add, count, list, content, rowsButton, textButton, rows: [], text: null, linked: null, isText: null,
    height: HEAD_PX, contentHeight: 0, fitted: 0, marks: new Map(), blocksOpen: -1, changedAt: 0, asked: null, typed: false,
  };
  add.title = "add a LoRA to the list";
  add.addEventListener("click", () => pick(editor, null, add));
  list.addEventListener("wheel", (event) => list.scrollHeight > list.clientHeight && event.stopPropagation());
  const height = () => editor.height + 2 * MARGIN_PX;
  editor.own = node.addDOMWidget("cvl_loras", "cvl_loras", box, {
    serialize: false, // not in the prompt
    hideOnZoom: false,
    margin: MARGIN_PX,
    getMinHeight: height,
    getMaxHeight: () => (rowsShown(editor) ? undefined : height()),
  });
  editor.own.serialize = false; // not in widgets_values
  node.widgets.splice(node.widgets.indexOf(editor.own), 1);
  node.widgets.splice(node.widgets.indexOf(widget), 0, editor.own);
  return editor;
}

const rowsShown = (editor) => !editor.isText && !editor.linked;

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
    Object.assign(editor, { linked, isText });
    if (text !== editor.text) Object.assign(editor, { text, blocksOpen: -1, changedAt: performance.now() });
    render(editor);
  } else if (editor.content.offsetHeight !== editor.contentHeight) { // on the page at last, or lines are broken anew
    measure(editor);
  }
  if (widget.hidden) widget.y = editor.own.y; // its socket is drawn there, beside the rows
  if (!linked && editor.asked !== editor.text && performance.now() - editor.changedAt >= PAUSE_MS) check(editor);
}

/** Asks what each line means; what the answer says is kept by the line's own text, so that moved lines keep it. */
async function check(editor) {
  const text = (editor.asked = editor.text);
  const answer = await ask("loras", { text });
  if (text !== editor.asked || !answer?.lines) return; // a newer question, no server, or too long a list
  const written = splitLines(text).map((line) => line.written);
  editor.marks = new Map(answer.lines.map((line) => [written[line.number - 1], line]));
  mark(editor);
}

function mark(editor) {
  for (const { row, line } of editor.rows) row.mark(editor.marks.get(line.written));
  measure(editor);
}

function setMode(editor, isText) {
  asText[isText ? "add" : "delete"](String(editor.node.id));
  look(editor);
}

function render(editor) {
  const { box, list, content } = editor;
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const focus = focused && [focused.closest("[data-place]")?.dataset.place, focused.dataset.field];
  const lines = editor.linked ? [] : readList(editor.text);
  editor.rows = rowsShown(editor) ? lines.map((line, place) => ({ line, row: rowOf(editor, line, place) })) : [];
  const empty = rowsShown(editor) && lines.every((line) => line.kind === "blank");
  content.replaceChildren(...editor.rows.map(({ row }) => row.element));
  if (empty) content.append(classed("div", "cvl-empty", "no LoRA in the list; what is connected is passed on as it is"));
  const loras = lines.filter((line) => line.kind === "lora");
  editor.count.textContent = editor.linked ? "comes from a link"
    : `${loras.filter((line) => line.on).length} of ${loras.length} on`;
  editor.add.style.display = rowsShown(editor) ? "" : "none";
  list.style.display = rowsShown(editor) ? "" : "none";
  editor.rowsButton.setAttribute("aria-pressed", String(!editor.isText));
  editor.textButton.setAttribute("aria-pressed", String(editor.isText));
  box.classList.toggle("cvl-linked-list", editor.linked);
  editor.typed = false;
  showText(editor, !rowsShown(editor));
  mark(editor);
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
  const { node, box, rows, content } = editor;
  const guess = () => rows.reduce((sum, { row }) => sum + row.height(), 0);
  editor.contentHeight = content.offsetHeight;
  const needed = Math.max(LINE_PX, Math.min(MOST_PX, editor.contentHeight || guess())) + 4;
  editor.height = HEAD_PX + (rowsShown(editor) ? needed : 0);
  box.style.minHeight = `${editor.height}px`;
  const [width, computed] = node.computeSize();
  const least = computed + (rowsShown(editor) ? 0 : TEXT_PX);
  const [, now] = node.size;
  if (now < least || (Math.abs(now - editor.fitted) < 2 && rowsShown(editor))) {
    if (Math.abs(now - least) >= 1) node.setSize([Math.max(width, node.size[0]), least]);
    editor.fitted = least;
  }
  node.setDirtyCanvas?.(true, true);
}

/** Writes the text. While one types, the rows stay as they are; the step that undo takes back is made at the end. */
function write(editor, text, typing = false) {
  if (text !== editor.text) {
    if (!typing) app.canvas.emitBeforeChange?.();
    editor.widget.value = text;
    Object.assign(editor, { text, changedAt: performance.now(), typed: typing });
    if (!typing) app.canvas.emitAfterChange?.();
  }
  if (!typing) render(editor);
  return true;
}

function done(editor, anyway = false) {
  if (!editor.typed && !anyway) return;
  if (editor.typed) {
    app.canvas.emitBeforeChange?.();
    app.canvas.emitAfterChange?.();
  }
  editor.typed = false;
  setTimeout(() => editor.typed || render(editor)); // not while the focus is on its way to another field
}

function rowOf(editor, line, place) {
  const written = () => splitLines(editor.text)[place].written;
  const act = {
    edit(change, typing) {
      const edited = editLine(written(), change);
      return edited !== null && write(editor, replaceLine(editor.text, place, edited), typing);
    },
    write: (text, typing) => splitLines(text).length <= 1 && splitLines(text + "\n").length === 1
      && write(editor, replaceLine(editor.text, place, text), typing),
    done: (anyway) => done(editor, anyway),
    remove: () => write(editor, removeLine(editor.text, place)),
    moveBy: (step) => move(editor, place, neighbour(editor, place, step)),
    drag: (event) => drag(editor, place, event),
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
  write(editor, moveLine(editor.text, from, to));
  refocus(editor, to, "handle");
}

/** Drags a row by its handle; a line shows where it would fall. */
function drag(editor, from, event) {
  const handle = event.currentTarget, elements = editor.rows.map(({ row }) => row.element);
  const text = editor.text;
  let to = from;
  handle.setPointerCapture(event.pointerId);
  elements[from].classList.add("cvl-dragged");
  const clear = () => elements.forEach((element) => element.classList.remove("cvl-before", "cvl-after"));
  const onMove = ({ clientY }) => {
    const below = elements.filter((element) => {
      const { top, bottom } = element.getBoundingClientRect();
      return clientY > (top + bottom) / 2;
    }).length; // rows whose middle is above the pointer
    to = below > from ? below - 1 : below;
    clear();
    if (to !== from) elements[to].classList.add(to > from ? "cvl-after" : "cvl-before");
  };
  const end = ({ type, key }) => {
    if (type === "keydown" && key !== "Escape") return;
    handle.removeEventListener("pointermove", onMove);
    for (const kind of ["pointerup", "pointercancel"]) handle.removeEventListener(kind, end);
    document.removeEventListener("keydown", end, true);
    clear();
    elements[from].classList.remove("cvl-dragged");
    if (type === "pointerup" && text === editor.text) move(editor, from, to);
  };
  handle.addEventListener("pointermove", onMove);
  handle.addEventListener("pointerup", end);
  handle.addEventListener("pointercancel", end);
  document.addEventListener("keydown", end, true);
}

/** Chooses a name for a row, or for a new one where there is no place yet. */
function pick(editor, place, anchor, current) {
  openMenu(anchor, {
    current: editor.marks.get(editor.rows[place]?.line.written)?.file ?? current,
    names: ask("loras", { menu: true }).then((answer) => answer?.menu ?? []),
    canWrite: (name) => lineOf(name) !== null,
    then: () => (place === null ? editor.add : editor.list.querySelector(`[data-place="${place}"] [data-field="name"]`))
      ?.focus({ preventScroll: true }),
    choose(name) {
      const written = place === null ? lineOf(name) : editLine(splitLines(editor.text)[place]?.written ?? "", { name });
      if (written === null) return;
      write(editor, place === null ? addLine(editor.text, written) : replaceLine(editor.text, place, written));
      if (place === null) editor.list.scrollTop = editor.list.scrollHeight;
    },
  });
}

function words(editor, place, anchor) {
  const name = editor.marks.get(editor.rows[place].line.written)?.file;
  if (name) openWords(anchor, { name, facts: ask("lora_header", { name }), then: () => refocus(editor, place, "words") });
}

/** After `method` of a class, also `then(this, ...arguments)`. */
function chain(prototype, method, then) {
  const before = prototype[method];
  prototype[method] = function (...values) {
    const result = before?.apply(this, values);
    then(this, ...values);
    return result;
  };
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
    const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet" });
    sheet.href = new URL("./lora_editor.css", import.meta.url).href;
    document.head.append(sheet);
    setInterval(() => document.hidden || shown.forEach(look), LOOK_MS);
    api.addEventListener("reconnected", () => shown.forEach((editor) => (editor.asked = null)));
  },
});
