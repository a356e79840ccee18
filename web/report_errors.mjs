// What stopped a node, in red on the node itself: an error while it ran, or a prompt that the server refused.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { workflowOf } from "./report_history.mjs";
import * as memory from "./report_memory.mjs";

const PROMPT = /\/prompt(\?|$)/;
const ANSWERED_MS = 150; // after which the front end has read the server's answer
const MOST_LETTERS = 2000; // of what stopped a node

/** What stopped a node when it was to run last, as lines of a report; null where nothing did. */
export function errorLines(node) {
  const error = memory.keptOf(node)?.error;
  return typeof error === "string" ? error.split("\n").map((text) => ({ text, mark: "error" })) : null;
}

const keepError = (workflow, path, said) => memory.keepError(workflow, path, said.trim().slice(0, MOST_LETTERS));

async function failed(detail, paint) {
  if (!memory.isOurs(detail.node_type)) return;
  const path = String(detail.node_id);
  const owner = memory.ownerByGraph(await workflowOf(detail.prompt_id), path, detail.node_type);
  const isOpen = !owner || owner === memory.active();
  if (isOpen && memory.nodeAt(path)?.comfyClass !== detail.node_type) return;
  const node = isOpen ? memory.nodeAt(path) : null;
  keepError(owner, node ? memory.locatorOf(node) : path, detail.exception_message || detail.exception_type);
  if (node) paint(node);
}

/** A run was asked for: what stopped the last one is past, and what the server refuses this time is known. */
function prompted(startedAt, paint, eachOfOurs) {
  const changed = new Set();
  eachOfOurs((node) => {
    const { error, at = 0 } = memory.keptOf(node) ?? {};
    if (!error || at >= startedAt) return; // a fast prompt fails before its question is answered
    memory.keepError(null, memory.locatorOf(node), "");
    changed.add(node);
  });
  for (const [path, { errors: said, class_type: type }] of Object.entries(app.lastNodeErrors ?? {})) {
    const node = memory.isOurs(type) && said?.length ? memory.nodeAt(path) : null;
    if (!node) continue;
    const text = said.map(({ message, details }) => (details ? `${message}: ${details}` : message)).join("\n");
    keepError(null, memory.locatorOf(node), text);
    changed.add(node);
  }
  changed.forEach((node) => paint(node));
}

/** Listens for both kinds of errors. Not every front end says that a prompt was refused, but the page notes each
 * question to the server. */
export function bindErrors(paint, eachOfOurs) {
  api.addEventListener("execution_error", ({ detail }) => failed(detail, paint));
  new PerformanceObserver((list) => {
    const asked = list.getEntries().filter((entry) => PROMPT.test(new URL(entry.name).pathname)).at(-1);
    if (!asked) return;
    const startedAt = Date.now() - (performance.now() - asked.startTime);
    setTimeout(() => prompted(startedAt, paint, eachOfOurs), ANSWERED_MS);
  }).observe({ type: "resource" });
}
