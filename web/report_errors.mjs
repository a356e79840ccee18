// What stopped a node, in red on the node itself: an error while it ran, or a prompt that the server refused.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import * as memory from "./report_memory.mjs";

const PROMPT = /\/prompt(\?|$)/;
const ANSWERED_MS = 150; // after which the front end has read the server's answer

const errors = new WeakMap(); // tracker of a workflow -> path -> {lines, at}
const nowhere = new Map(); // the same for a front end without workflows

function errorsOf(workflow) {
  const tracker = memory.trackerOf(workflow);
  if (!tracker) return nowhere;
  if (!errors.has(tracker)) errors.set(tracker, new Map());
  return errors.get(tracker);
}

/** What stopped a node of the open workflow when it was to run last, as lines of a report; null where nothing did. */
export function errorLines(node) {
  for (const [path, { lines }] of errorsOf(memory.active())) if (memory.nodeAt(path) === node) return lines;
  return null;
}

const asLines = (text) => text.trim().split("\n").map((line) => ({ text: line, mark: "error" }));

/** The workflow that a running or a finished prompt was made of. */
async function workflowOf(prompt) {
  const read = async (route) => (await api.fetchApi(route)).json();
  try {
    const running = (await read("/queue")).queue_running?.find((entry) => entry[1] === prompt);
    const entry = running ?? (await read(`/history/${prompt}`))[prompt]?.prompt;
    return entry?.[3]?.extra_pnginfo?.workflow ?? null;
  } catch {
    return null; // the server is gone
  }
}

async function failed(detail, paint) {
  if (!memory.isOurs(detail.node_type)) return;
  const path = String(detail.node_id), at = performance.now();
  const owner = memory.ownerByGraph(await workflowOf(detail.prompt_id), path, detail.node_type);
  const isOpen = !owner || owner === memory.active();
  if (isOpen && memory.nodeAt(path)?.comfyClass !== detail.node_type) return;
  errorsOf(owner ?? memory.active()).set(path, { lines: asLines(detail.exception_message || detail.exception_type), at });
  if (isOpen) paint(memory.nodeAt(path));
}

/** A run was asked for: what stopped the last one is past, and what the server refuses this time is known. */
function prompted(startedAt, paint, eachOfOurs) {
  const found = errorsOf(memory.active()), changed = new Set();
  for (const [path, { at }] of found) {
    if (at >= startedAt) continue; // a fast prompt fails before its question is answered
    changed.add(memory.nodeAt(path));
    found.delete(path);
  }
  for (const [path, { errors: said, class_type: type }] of Object.entries(app.lastNodeErrors ?? {})) {
    if (!memory.isOurs(type) || !said?.length) continue;
    const text = said.map(({ message, details }) => (details ? `${message}: ${details}` : message)).join("\n");
    found.set(path, { lines: asLines(text), at: performance.now() });
    changed.add(memory.nodeAt(path));
  }
  eachOfOurs((node) => changed.has(node) && paint(node));
}

/** Listens for both kinds of errors. Not every front end says that a prompt was refused, but the page notes each
 * question to the server. */
export function bindErrors(paint, eachOfOurs) {
  api.addEventListener("execution_error", ({ detail }) => failed(detail, paint));
  new PerformanceObserver((list) => {
    const asked = list.getEntries().filter((entry) => PROMPT.test(new URL(entry.name).pathname)).at(-1);
    if (asked) setTimeout(() => prompted(asked.startTime, paint, eachOfOurs), ANSWERED_MS);
  }).observe({ type: "resource" });
}
