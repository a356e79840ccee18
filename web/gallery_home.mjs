// A box on a node that shows what it reported as HTML: charts, galleries, the slider. It stays through undo, tabs and a
// reload, and replaces the front end's own preview of the same pictures.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chain } from "./chain.mjs";
import { addOwnWidget } from "./dom_widget.mjs";
import { installStyle } from "./gallery_style.mjs";
import * as memory from "./report_memory.mjs";
import { workflowOf } from "./report_history.mjs";
import { readMessage, textOf } from "./report_lines.mjs";
import { freeRight, growTo, isVue, laidOutHeight, neededHeight, roomOf, spareBelow } from "./report_room.mjs";

const STORE = "cvl.pictures"; // in the browser's storage
const MOST_KEPT = 60_000, MOST_STORED = 600_000; // letters: of a node, of all; the oldest workflows go first
const LOOK_MS = [60, 400, 1500, 4000]; // after a graph is there, until it is known which workflow it is; a busy machine is late
const MARGIN_PX = 6;
const LEAST_PX = 210; // where there is no room for more before the node below: a row of cards, a slider
const LAID_OUT_MS = [300, 1000]; // after which the page has laid out a Vue node: at once, or on a busy machine
const KEPT_KEYS = ["images", "a_images", "b_images", "cvl_gallery", "cvl_chart", "cvl_report", "text"];
const MEANWHILE = "clip_vae_lora.meanwhile"; // what the server calls a message of a node that still runs

const boxes = new WeakMap(); // node -> its box
const used = new Map(); // keys of workflows that were written or restored since the page was loaded -> their trackers

/** The address of a picture that a node named: {filename, subfolder, type}. */
export function addressOf({ filename, subfolder = "", type = "temp" }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/** A tag with a class and a text. */
export function tag(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  if (name === "button") made.type = "button";
  return made;
}

function makeBox(node, name, least) {
  installStyle();
  const root = tag("div", "cvl-pictures");
  const box = { root, whole: () => 0, least, most: least, heightAt: (width) => Math.min(box.whole(width), box.most) };
  box.widget = addOwnWidget(node, name, "cvl_pictures", root, {
    margin: MARGIN_PX,
    getMinHeight: () => box.heightAt(Math.max(200, node.size[0] - 2 * MARGIN_PX)) + 2 * MARGIN_PX,
    getLeastHeight: () => Math.min(box.whole(node.size[0] - 2 * MARGIN_PX), box.least),
  });
  root.addEventListener("wheel", (event) => {
    if (event.target.closest(".cvl-scroll")?.matches(":hover")) event.stopPropagation();
  });
  boxes.set(node, box);
  return box;
}

/** The node's pictures stand in our box: the front end is not to draw them a second time below it. Nodes 2.0 ask for
 * hideOutputImages before anything is drawn here, so a node has that from its beginning. */
function hideOwnPreview(node) {
  Object.defineProperty(node, "imgs", { get: () => undefined, set: () => {}, configurable: true }); // classic nodes
}

function setHeight(node, box) {
  const height = `${box.heightAt(node.size[0] - 2 * MARGIN_PX)}px`;
  box.root.style.minHeight = height;
  box.root.style.maxHeight = isVue() ? height : ""; // the page would give it the height of all that can be scrolled to
}

/** Gives a box the room that the report and the node below leave to it: what is higher scrolls. */
function fit(node, box) {
  if (!node.graph || (isVue() && !box.root.offsetHeight)) return;
  const before = [node.size[0], node.size[1]];
  const room = isVue() ? roomOf(node) - laidOutHeight(node, [[box.root, 0]])
    : Math.max(0, before[1] - neededHeight(node, box.widget)) - 2 * MARGIN_PX + spareBelow(node);
  box.most = Math.max(box.least, room);
  setHeight(node, box);
  if (!isVue()) growTo(node, Math.max(before[1], neededHeight(node)));
  memory.keepSize(node, [...box.sizes, before, [node.size[0], node.size[1]]]); // the user has not changed it
  node.setDirtyCanvas?.(true, true);
}

/** Draws the box of a node from its message: `draw(node, root, message)` gives a function from the box's width to its
 * height, both in px, or null where there is nothing to draw. */
function paint(node, { widget, draw, width = 0, least = LEAST_PX }, message) {
  const root = tag("div", "");
  const whole = draw(node, root, message);
  node.hideOutputImages = Boolean(whole);
  if (!whole) return;
  const box = boxes.get(node) ?? makeBox(node, widget, least);
  box.root.replaceChildren(...root.childNodes);
  box.whole = whole;
  hideOwnPreview(node);
  const before = [node.size[0], node.size[1]];
  const room = freeRight(node, before[1] + box.heightAt(width || before[0]));
  const wide = Math.max(before[0], Math.min(width, before[0] + room));
  if (wide > before[0]) node.setSize([wide, before[1]]);
  box.sizes = [before, [node.size[0], node.size[1]]];
  setHeight(node, box);
  requestAnimationFrame(() => requestAnimationFrame(() => fit(node, box))); // the report has its place by then
  for (const ms of isVue() ? LAID_OUT_MS : []) setTimeout(() => fit(node, box), ms);
}

function keyOf(workflow) {
  const state = workflow?.changeTracker?.activeState;
  const id = workflow === memory.active() ? memory.rootGraph()?.id : state?.id;
  return workflow?.path && id ? `${workflow.path}|${id}` : null;
}

function readStore() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {}; // nothing there, or a browser that keeps nothing
  }
}

function keep(workflow, path, message) {
  const key = keyOf(workflow);
  const names = KEPT_KEYS.filter((name) => message[name] && !(name === "cvl_report" && message.cvl_chart));
  const kept = Object.fromEntries(names.map((name) => [name, message[name]]));
  if (!key || JSON.stringify(kept).length > MOST_KEPT) return;
  used.set(key, memory.trackerOf(workflow));
  const all = readStore(), before = all[key] ?? {};
  delete all[key]; // the newest stands last
  all[key] = { ...before, [path]: kept };
  let written = JSON.stringify(all);
  for (const old of Object.keys(all)) {
    if (written.length <= MOST_STORED || old === key) break;
    delete all[old];
    written = JSON.stringify(all);
  }
  try {
    localStorage.setItem(STORE, written);
  } catch {
    // a browser that keeps nothing: the box lives as long as the page
  }
}

const turns = new WeakMap(); // node -> the place of the message that it shows among all of them
let turn = 0;
let asked = { prompt: null, graph: null }; // the workflow that the prompt was made of which runs, as the server tells it

/** The node that still runs and has something to show; null where another workflow than its own is open. */
async function runningNode({ node: path, prompt_id: prompt }) {
  if (asked.prompt !== prompt) asked = { prompt, graph: workflowOf(prompt) };
  const graph = await asked.graph, node = memory.nodeAt(path);
  const owner = node && memory.ownerByGraph(graph, path, node.comfyClass);
  return !owner || owner === memory.active() ? node : null;
}

/** Registers a box for some kinds of nodes. `view` has the widget's name, `draw` as `paint` says, and perhaps the
 * width and the least height in px. */
export function showOnNodes(name, kinds, view) {
  const isOne = (node) => node && kinds.includes(node.comfyClass);

  function restore(outputs) {
    for (const [path, output] of Object.entries(outputs ?? {})) {
      const node = memory.nodeAt(path);
      if (isOne(node) && output && !memory.isDisowned(path, textOf(readMessage(output) ?? []))) paint(node, view, output);
    }
  }

  function restoreStored() {
    const workflow = memory.active(), key = keyOf(workflow), tracker = memory.trackerOf(workflow);
    if (!key || (workflow.isTemporary && used.has(key) && used.get(key) !== tracker)) return; // opened anew: has not run
    used.set(key, tracker);
    for (const [path, message] of Object.entries(readStore()[key] ?? {})) {
      const node = memory.nodeAt(path);
      if (isOne(node) && !boxes.has(node)) paint(node, view, message);
    }
  }

  app.registerExtension({
    name,
    beforeRegisterNodeDef(nodeType, nodeData) {
      if (!kinds.includes(nodeData.name)) return;
      chain(nodeType.prototype, "onResize", (node) => {
        const box = boxes.get(node);
        if (box) setHeight(node, box);
      });
    },
    nodeCreated(node) {
      if (isOne(node)) node.hideOutputImages = true;
    },
    onNodeOutputsUpdated: restore,
    afterConfigureGraph() {
      for (const wait of LOOK_MS) setTimeout(restoreStored, wait);
    },
    setup() {
      api.addEventListener("executed", (event) => queueMicrotask(() => {
        const { detail } = event, path = String(detail.display_node || detail.node);
        const owner = memory.ownerOf(detail), isOpen = !owner || owner === memory.active();
        const node = isOpen ? memory.nodeAt(path) : null;
        if (isOpen && !isOne(node)) return;
        if (!detail.output) return;
        keep(owner ?? memory.active(), node ? memory.locatorOf(node) : path, detail.output);
        if (!node) return;
        turns.set(node, ++turn);
        paint(node, view, detail.output);
      }));
      api.addEventListener(MEANWHILE, async ({ detail }) => {
        const own = ++turn, node = await runningNode(detail);
        if (!isOne(node) || (turns.get(node) ?? 0) > own) return; // it has shown a newer one since
        turns.set(node, own);
        paint(node, view, detail.output);
      });
    },
  });
}
