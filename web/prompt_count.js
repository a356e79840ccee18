// Under each prompt of a CVL node: how many tokens it has in how many chunks, live; a click opens the coloured tokens.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chain } from "./chain.mjs";
import { addOwnWidget } from "./dom_widget.mjs";
import { element, fillPanel } from "./prompt_panel.mjs";
import { AMBER } from "./tones.mjs";

const ROUTE = "/clip_vae_lora/tokens";
const PROMPTS = { // node -> its prompts, and the text encoder that each is for
  CVL_TextEncode: { text: "l" },
  CVL_TextEncodeSDXL: { text_g: "g", text_l: "l" },
  CVL_InspectTokens: { text: "l" },
};
const READING = ["dialect", "splitting", "joining"]; // widgets of the node that change the count

const LOOK_MS = 100;
const PAUSE_MS = 200; // after the last change, before the server is asked
const LINE_PX = 20;
const PANEL_PX = 240;
const MARGIN_PX = 2;

const linesOf = new WeakMap(); // node -> its lines
const shown = new Set(); // the lines of nodes that are in a graph

/** The line under one prompt: `seen` are the values that the node showed last, `asked` those the server was asked. */
function makeLine(node, name, encoder) {
  const box = element("div", { display: "flex", flexDirection: "column", padding: "0 8px", boxSizing: "border-box" });
  const button = element("button", {
    flex: `0 0 ${LINE_PX}px`, width: "100%", padding: "0 4px", border: "none", background: "none", cursor: "pointer",
    textAlign: "left", font: "11px/20px sans-serif", color: "var(--input-text, #ddd)", overflow: "hidden",
    textOverflow: "ellipsis", whiteSpace: "nowrap",
  });
  const panel = element("div", {
    display: "none", flex: "1 1 0", minHeight: `${PANEL_PX - 8}px`, overflowY: "auto", padding: "4px 6px",
    borderRadius: "4px", font: "11px/1.4 sans-serif", color: "var(--input-text, #ddd)", userSelect: "text",
    background: "var(--comfy-input-bg, #222)",
  });
  button.type = "button";
  button.className = "cvl-prompt-count";
  panel.className = "cvl-prompt-panel";
  button.setAttribute("aria-expanded", "false");
  panel.addEventListener("wheel", (event) => event.stopPropagation()); // scrolls the panel, does not zoom the canvas
  box.append(button, panel);

  const line = { node, name, encoder, button, panel, open: false, seen: [], changedAt: 0, asked: null, number: 0 };
  button.addEventListener("click", () => toggle(line));
  const height = () => LINE_PX + 2 * MARGIN_PX + (line.open ? PANEL_PX : 0);
  const widget = addOwnWidget(node, `cvl_count_${name}`, "cvl_count", box, {
    margin: MARGIN_PX,
    getMinHeight: height,
    getMaxHeight: () => (line.open ? undefined : height()),
  });
  node.widgets.splice(node.widgets.indexOf(widget), 1);
  node.widgets.splice(node.widgets.findIndex((other) => other.name === name) + 1, 0, widget);
  return line;
}

function toggle(line) {
  line.open = !line.open;
  line.panel.style.display = line.open ? "block" : "none";
  line.button.setAttribute("aria-expanded", String(line.open));
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
  const [text, ...rest] = line.asked;
  const number = ++line.number;
  line.request?.abort();
  if (text === null) return show(line, "comes from a link", {});
  line.request = new AbortController();
  line.button.style.opacity = "0.6";
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
  if (!answer) return show(line, "no count", { error: "the server did not answer" });
  show(line, answer.error ? "no count" : countText(answer), answer);
}

/** "23 / 75 tokens · 1 chunk", "151 tokens · 3 chunks (75 + 75 + 1)". */
function countText({ tokens, limit, chunks, encoder }) {
  const many = chunks.length > 1;
  const each = chunks.slice(0, 8).map((chunk) => chunk.used).join(" + ") + (chunks.length > 8 ? " + …" : "");
  const count = many ? `${tokens} tokens · ${chunks.length} chunks (${each})` : `${tokens} / ${limit} tokens · 1 chunk`;
  return encoder ? `${count} · ${encoder}` : count;
}

function show(line, text, answer) {
  const notes = answer.error ? [answer.error] : (answer.notes ?? []);
  const more = notes.length > 1 ? ` (+${notes.length - 1})` : "";
  line.button.textContent = notes.length ? `${text} · ⚠ ${notes[0]}${more}` : text;
  line.button.title = [text, ...notes, "Click: show or hide the tokens."].join("\n");
  line.button.style.color = notes.length ? AMBER : "var(--input-text, #ddd)";
  line.button.style.opacity = "1";
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
  setup() {
    setInterval(() => document.hidden || shown.forEach(look), LOOK_MS);
    api.addEventListener("reconnected", () => shown.forEach((line) => (line.asked = null)));
  },
});
