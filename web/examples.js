// The examples speak the language of the front end: their notes, the titles of their groups, and what stands behind a
// node's name, are put into it when an example is opened, before the front end sees the workflow, so that nothing counts
// as changed. Values and links stay as they are. Other workflows are left alone: only an example has an example's note.
import { app } from "../../scripts/app.js";
import { isTranslated, loadWords } from "./words.mjs";

const NOTE = "MarkdownNote";
const PART = ": "; // between a node's name and what it is there for

let table = null;

async function load() {
  await loadWords();
  if (!isTranslated()) return;
  table = await (await import("./zh.mjs")).examples();
}

/** The name of a kind of node in the language of the front end. */
const nameOf = (type) => LiteGraph.registered_node_types[type]?.title;

function titled({ type, title }) {
  if (type === NOTE) return table[title] ?? title;
  const at = title.indexOf(PART), said = at < 0 ? null : table[title.slice(at + PART.length)];
  if (at < 0) return nameOf(type) ?? title; // an example's node has the name of its kind
  return said && nameOf(type) ? `${nameOf(type)}：${said}` : title;
}

/** Puts an example, as it is saved, into the language of the front end. */
function say(graph) {
  const nodes = graph?.nodes ?? [];
  const isOurs = ({ type, widgets_values: values }) => type === NOTE && Object.hasOwn(table, values?.[0]);
  if (!nodes.some(isOurs)) return;
  for (const node of nodes) {
    if (isOurs(node)) node.widgets_values = [table[node.widgets_values[0]], ...node.widgets_values.slice(1)];
    if (node.title) node.title = titled(node);
  }
  for (const group of graph.groups ?? []) group.title = table[group.title] ?? group.title;
}

app.registerExtension({
  name: "clip-vae-lora.examples",
  init: load,
  beforeConfigureGraph(graph) {
    if (table) say(graph);
  },
});
