// What stopped a node, in red on the node itself: an error while it ran, or a prompt that the server refused.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { workflowOf } from "./report_history.mjs";
import * as memory from "./report_memory.mjs";
import { isTranslated, translated } from "./words.mjs";

const PROMPT = /\/prompt(\?|$)/;
const ANSWERED_MS = 150; // after which the front end has read the server's answer
const MOST_LETTERS = 2000; // of what stopped a node

const english = new WeakMap(); // a message of the server -> what it said before it was put into the page's language

/** What the server said of an error, in English. */
export const saidOf = (detail) => english.get(detail) ?? String(detail?.exception_message || detail?.exception_type || "");

/** Puts the error of a node of ours into the page's language before the front end shows it in a panel or a dialog. */
function sayInPlace({ detail }) {
  if (!isTranslated() || !memory.isOurs(detail?.node_type) || english.has(detail)) return;
  english.set(detail, saidOf(detail));
  detail.exception_message = translated(saidOf(detail));
}

/** What the server has against an input, which is called as the node calls it. */
function refusal(node, { message, details, extra_info: more }) {
  const key = more?.input_name, { localized_name: name } = node.inputs?.find((input) => input.name === key) ?? {};
  const named = key && name && details?.startsWith(key) ? name + details.slice(key.length) : details;
  return named ? `${message}: ${named}` : message;
}

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
  keepError(owner, node ? memory.locatorOf(node) : path, saidOf(detail));
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
    keepError(null, memory.locatorOf(node), said.map((one) => refusal(node, one)).join("\n"));
    changed.add(node);
  }
  changed.forEach((node) => paint(node));
}

/** Listens for both kinds of errors. Not every front end says that a prompt was refused, but the page notes each
 * question to the server. */
export function bindErrors(paint, eachOfOurs) {
  api.addEventListener("execution_error", sayInPlace, true); // captures: before the front end's own listener
  api.addEventListener("execution_error", ({ detail }) => failed(detail, paint));
  new PerformanceObserver((list) => {
    const asked = list.getEntries().filter((entry) => PROMPT.test(new URL(entry.name).pathname)).at(-1);
    if (!asked) return;
    const startedAt = Date.now() - (performance.now() - asked.startTime);
    setTimeout(() => prompted(startedAt, paint, eachOfOurs), ANSWERED_MS);
  }).observe({ type: "resource" });
}
