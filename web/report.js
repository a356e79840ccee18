// Shows what a CVL node reported, under the node: the same lines that the API's /history has in `ui.text`, and in red
// what stopped it. A report stays through undo, tabs, subgraphs and a reload, and never shows in another workflow.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chain } from "./chain.mjs";
import * as memory from "./report_memory.mjs";
import { boxAt, showLines } from "./report_box.mjs";
import { packed, readMessage, stopped, textOf, unpacked } from "./report_lines.mjs";
import { bindErrors, errorLines } from "./report_errors.mjs";
import { messagesOf } from "./report_history.mjs";
import { t } from "./words.mjs";

const SETTLED_MS = 5000; // so long after a report a node may still grow for its pictures
const OPENED_MS = 60; // after which a front end knows which workflow is open

const grown = new WeakMap(); // node -> {sizes, at}: the sizes it had since its report came
const whole = new WeakMap(); // node -> the lines it reported, uncut
const prompts = new Map(); // prompt -> {owner, cached}: those that run, or have just ended

/** The lines of a kept report, with a word about what was cut off. */
function keptLines(node) {
  const kept = memory.keptOf(node), lines = unpacked(kept);
  if (lines && kept.more > 0) lines.push({ text: t("… {} more lines: run again to see them", kept.more), mark: "" });
  return lines;
}

/** What a node has to say: its last report, or what stopped it since. */
function linesOf(node) {
  const errors = errorLines(node), report = whole.get(node) ?? keptLines(node) ?? [];
  return errors ? stopped(errors, report, t("report of an earlier run:")) : report;
}

/** Draws a node's box anew from what is known of it. The states of the workflow get the size that comes of it. */
export function paint(node, restored = false) {
  if (!node?.graph) return;
  const lines = linesOf(node);
  if (!lines.length && !boxAt(node)) return;
  grown.set(node, { sizes: [[node.size[0], node.size[1]]], at: performance.now() });
  showLines(node, lines, { restored });
  settle(node);
  requestAnimationFrame(() => requestAnimationFrame(() => settle(node)));
}

let pressed = false; // a mouse button: the user may be changing a size himself

/** A node that has grown for its report, or for the pictures that came with it, was not changed by the user. */
function settle(node) {
  const { sizes, at } = grown.get(node) ?? {};
  if (!sizes || pressed || performance.now() - at > SETTLED_MS) return;
  memory.keepSize(node, sizes);
  sizes.push([node.size[0], node.size[1]]);
}

/** Takes a node's message in: shown where its workflow is open, kept for when it is opened otherwise. Gives the node
 * that shows it now. */
function take(owner, path, message, { fromHistory = false } = {}) {
  const lines = readMessage(message);
  if (!lines) return null;
  const isOpen = !owner || owner === memory.active();
  const node = isOpen ? memory.nodeAt(path) : null;
  if (isOpen && !memory.isOurs(node?.comfyClass)) return null;
  if (isOpen && fromHistory && textOf(whole.get(node) ?? []) === textOf(lines)) return null;
  if (!isOpen) memory.disown(memory.active(), path, textOf(lines)); // the front end puts it among these outputs too
  else if (fromHistory && whole.get(node)) memory.disown(memory.active(), path, textOf(whole.get(node)));
  else memory.own(memory.active(), path);
  memory.keep(owner, node ? memory.locatorOf(node) : path, { ...packed(lines), at: Date.now() });
  if (!node) return null;
  whole.set(node, lines);
  paint(node);
  return node;
}

function promptAt(id) {
  if (!prompts.has(id)) prompts.set(id, { owner: null, cached: new Set() });
  return prompts.get(id);
}

function executed({ detail }) {
  if (detail.cvl_again) return;
  const prompt = promptAt(detail.prompt_id), path = String(detail.display_node || detail.node);
  const owner = memory.ownerOf(detail);
  prompt.owner ??= owner;
  prompt.cached.delete(path);
  take(owner ?? prompt.owner, path, detail.output);
}

/** Nothing is sent for a cached node that is on the way to others; the server's history has its message. It is told as
 * if it were sent, so that pictures and charts come, too. */
async function ended() {
  for (const [id, { owner, cached, succeeded }] of prompts) {
    if (!succeeded) continue;
    prompts.delete(id);
    const told = cached.size ? await messagesOf(id, cached) : null;
    for (const [path, message] of told?.found ?? []) {
      const type = told.prompt[path].class_type;
      const from = owner ?? memory.ownerByGraph(told.graph, path, type);
      if (!memory.isOurs(type) || !take(from, path, message, { fromHistory: true })) continue;
      const detail = { node: path, display_node: path, output: message, prompt_id: id, cvl_again: true };
      api.dispatchEvent(new CustomEvent("executed", { detail }));
    }
  }
}

/** What the front end restores after undo, a change of tabs, or from its history of runs. */
function restore(outputs) {
  for (const [path, output] of Object.entries(outputs ?? {})) {
    const node = memory.nodeAt(path), lines = memory.isOurs(node?.comfyClass) ? readMessage(output) : null;
    if (!lines || memory.isDisowned(path, textOf(lines))) continue;
    whole.set(node, lines);
    memory.keep(null, memory.locatorOf(node), { ...packed(lines), ...memory.sinceOf(node) });
    paint(node, true);
  }
}

/** A node that is made from what was saved shows its report once all the others are there. */
function showKept(node) {
  if (!node.graph || !(memory.keptOf(node) || errorLines(node))) return;
  queueMicrotask(() => node.graph && !whole.has(node) && paint(node, true));
}

function restoreStored() {
  for (const [path, kept] of memory.stored()) {
    const node = memory.nodeAt(path), own = node ? memory.keptOf(node) : null;
    if (!node || !memory.isOurs(node.comfyClass)) continue;
    if (own && (kept.at ?? 0) <= (own.at ?? 0)) continue; // the workflow was saved since
    memory.keep(null, path, kept);
    paint(node, true);
  }
}

function eachOfOurs(then) {
  const root = memory.rootGraph();
  for (const graph of [root, ...(root?.subgraphs?.values?.() ?? [])]) {
    for (const node of graph?._nodes ?? []) if (memory.isOurs(node.comfyClass)) then(node);
  }
}

/** A copy has not run: it begins without a report. */
function copyFresh(prototype) {
  const { clone } = prototype;
  prototype.clone = function (...values) {
    const made = clone.apply(this, values);
    memory.forget(made);
    return made;
  };
}

app.registerExtension({
  name: "clip-vae-lora.report",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!memory.isOurs(nodeData.name)) return;
    chain(nodeType.prototype, "onConfigure", showKept);
    chain(nodeType.prototype, "onAdded", showKept);
    // a widget without a value leaves a hole in the list of values, which the front end would not skip when it loads it
    chain(nodeType.prototype, "onSerialize", (node, saved) => {
      if (Array.isArray(saved.widgets_values)) saved.widgets_values = saved.widgets_values.filter(() => true);
    });
    chain(nodeType.prototype, "onResize", settle);
    copyFresh(nodeType.prototype);
  },
  onNodeOutputsUpdated: restore,
  afterConfigureGraph() {
    setTimeout(() => {
      restoreStored();
      eachOfOurs((node) => {
        memory.keepShown(node);
        if (errorLines(node)) paint(node, true);
      });
    }, OPENED_MS);
  },
  setup() {
    window.addEventListener("pointerdown", () => (pressed = true), true);
    for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, () => (pressed = false), true);
    api.addEventListener("executed", (event) => queueMicrotask(() => executed(event)));
    api.addEventListener("execution_cached", ({ detail }) => {
      for (const path of detail.nodes ?? []) promptAt(detail.prompt_id).cached.add(String(path));
    });
    api.addEventListener("execution_success", ({ detail }) => (promptAt(detail.prompt_id).succeeded = true));
    api.addEventListener("executing", ({ detail }) => detail || ended());
    for (const kind of ["execution_error", "execution_interrupted"]) {
      api.addEventListener(kind, ({ detail }) => prompts.delete(detail.prompt_id));
    }
    bindErrors(paint, eachOfOurs);
  },
});
