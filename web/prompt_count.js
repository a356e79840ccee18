// Under each prompt of a CVL node: how many tokens it has in how many chunks, live; a click opens the coloured tokens.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chain } from "./chain.mjs";
import { addOwnWidget } from "./dom_widget.mjs";
import { counted, countText, makeParts, showLine } from "./prompt_line.mjs";
import { fillPanel } from "./prompt_panel.mjs";
import { installStyle, LINE_PX } from "./prompt_style.mjs";
import { loadWords, t } from "./words.mjs";

const ROUTE = "/clip_vae_lora/tokens";
const PROMPTS = { // node -> its prompts, and the text encoder that each is for
  CVL_TextEncode: { text: "l" },
  CVL_TextEncodeSDXL: { text_g: "g", text_l: "l" },
  CVL_InspectTokens: { text: "l" },
};
const NAMES = { // of prompts that stand beside another
  text_g: () => t("large encoder (G)"),
  text_l: () => t("small encoder (L)"),
};
const READING = ["dialect", "splitting", "joining"]; // widgets of the node that change the count

const LOOK_MS = 100;
const PAUSE_MS = 200; // after the last change, before the server is asked
const PANEL_PX = 240;
const MARGIN_PX = 2;
const OFF = [2, 4]; // the modes of a node that is muted or bypassed

const linesOf = new WeakMap(); // node -> its lines
const shown = new Set(); // the lines of nodes that are in a graph

/** The line under one prompt: `seen` are the values that the node showed last, `asked` those the server was asked. */
function makeLine(node, name, encoder) {
  const parts = makeParts();
  const line = { ...parts, node, name, encoder, open: false, seen: [], changedAt: 0, asked: null, number: 0 };
  line.button.addEventListener("click", () => toggle(line));
  const height = () => LINE_PX + 2 * MARGIN_PX + (line.open ? PANEL_PX : 0);
  line.own = addOwnWidget(node, `cvl_count_${name}`, "cvl_count", line.box, {
    margin: MARGIN_PX,
    getMinHeight: height,
    getMaxHeight: () => (line.open ? undefined : height()),
  });
  keepHeight(line);
  putBehind(line, node.widgets.findIndex((other) => other.name === name));
  return line;
}

/** Closed, the line has just its height; open, the panel grows with the node. */
function keepHeight({ own, open }) {
  // a widget with this keeps its height, in Vue nodes too if it has no layout size
  if (open) for (const name of ["computeSize", "computeLayoutSize"]) delete own[name];
  else Object.assign(own, { computeSize: () => [0, LINE_PX + 2 * MARGIN_PX], computeLayoutSize: undefined });
}

/** Moves the line's widget behind that place: Vue nodes look again when the list of widgets changes. */
function putBehind({ node, own }, place) {
  node.widgets.splice(node.widgets.indexOf(own), 1);
  node.widgets.splice(place + 1, 0, own);
}

function toggle(line) {
  line.open = !line.open;
  line.panel.style.display = line.open ? "block" : "none";
  line.panel.style.minHeight = `${PANEL_PX - 8}px`;
  line.button.setAttribute("aria-expanded", String(line.open));
  keepHeight(line);
  putBehind(line, line.node.widgets.indexOf(line.own) - 1);
  const [width, height] = line.node.size;
  line.node.setSize([width, height + (line.open ? PANEL_PX : -PANEL_PX)]);
  line.node.setDirtyCanvas?.(true, true);
  line.seen = line.asked = valuesNow(line);
  ask(line); // a click is no typing: there is nothing to wait for
}

/** What the count depends on, in a fixed order; null where the prompt comes by a link. */
function valuesNow({ node, name, open }) {
  const slot = node.inputs?.findIndex((input) => input.widget?.name === name) ?? -1;
  const linked = slot >= 0 && node.isInputConnected(slot);
  const value = (widget) => node.widgets.find((other) => other.name === widget)?.value;
  return [linked ? null : String(value(name) ?? ""), ...READING.map(value), open];
}

/** Asks when the values have changed and then rested a while. Frontends tell of changes each in their own way (typing,
 * undo, links, Vue nodes, other extensions), so the values themselves are looked at. */
function look(line) {
  const values = valuesNow(line), now = performance.now();
  line.box.toggleAttribute("data-off", OFF.includes(line.node.mode) && !line.box.closest("[data-node-id]"));
  if (values.some((value, place) => value !== line.seen[place])) {
    line.changedAt = now;
    line.seen = values;
  }
  if (line.seen !== line.asked && now - line.changedAt >= PAUSE_MS) {
    line.asked = line.seen;
    ask(line);
  }
}

/** Asks the server; an answer that is not to the newest question is thrown away. */
async function ask(line) {
  const [typed, ...rest] = line.asked;
  const number = ++line.number;
  line.request?.abort();
  if (typed === null) return show(line, t("comes from a link"), {});
  line.request = new AbortController();
  line.button.setAttribute("data-waiting", "");
  const { text, notes } = counted(typed, line.node.widgets.find(({ name }) => name === line.name)?.dynamicPrompts);
  const reading = Object.fromEntries(READING.map((name, place) => [name, rest[place]])); // undefined ones are not sent
  const body = JSON.stringify({ text, ...reading, encoder: line.encoder, pieces: line.open });
  let answer = null;
  try {
    const headers = { "Content-Type": "application/json" };
    const response = await api.fetchApi(ROUTE, { method: "POST", headers, body, signal: line.request.signal });
    answer = await response.json();
  } catch {
    // no server, no such route, or a newer question
  }
  if (number !== line.number) return;
  if (!answer) return show(line, t("no count"), { error: t("the server did not answer") });
  if (answer.error) return show(line, t("no count"), answer);
  show(line, countText(answer), { ...answer, notes: [...(answer.notes ?? []), ...notes] });
}

function show(line, text, answer) {
  const name = NAMES[line.name]?.();
  showLine(line, name ? `${name}: ${text}` : text, answer.error ? [answer.error] : (answer.notes ?? []));
  if (line.open) fillPanel(line.panel, answer);
}

/** A widget without a value leaves a hole in the list of values, which the frontend would not skip when it loads it;
 * and an open panel is not part of the node's size. */
function withoutTraces(node, saved) {
  if (Array.isArray(saved.widgets_values)) saved.widgets_values = saved.widgets_values.filter(() => true);
  const opened = (linesOf.get(node) ?? []).filter((line) => line.open).length;
  if (saved.size && opened) saved.size = [saved.size[0], saved.size[1] - opened * PANEL_PX];
}

app.registerExtension({
  name: "clip-vae-lora.prompt-count",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!PROMPTS[nodeData.name]) return;
    chain(nodeType.prototype, "onAdded", (node) => linesOf.get(node)?.forEach((line) => shown.add(line)));
    chain(nodeType.prototype, "onRemoved", (node) => linesOf.get(node)?.forEach((line) => shown.delete(line)));
    chain(nodeType.prototype, "onSerialize", withoutTraces);
  },
  nodeCreated(node) {
    const prompts = Object.entries(PROMPTS[node.comfyClass] ?? {});
    const there = prompts.filter(([name]) => node.widgets?.some((widget) => widget.name === name));
    if (!there.length) return;
    linesOf.set(node, there.map(([name, encoder]) => makeLine(node, name, encoder)));
    const [width, height] = node.computeSize();
    node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])]);
  },
  async setup() {
    installStyle();
    setInterval(() => document.hidden || shown.forEach(look), LOOK_MS);
    api.addEventListener("reconnected", () => shown.forEach((line) => (line.asked = null)));
    await loadWords();
  },
});
