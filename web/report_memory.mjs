// Where reports are kept, and whose they are: in a node's properties, in every state of its workflow that the front end
// holds for undo and saving (so that a report is no change of the user's), and in the browser for a reload.
import { app } from "../../scripts/app.js";

const KEPT = "cvl_report"; // among a node's properties
const STORE = "cvl.reports"; // in the browser's storage
const MOST_STORED = 400_000; // letters; the oldest workflows go first
const OURS = /^CVL_/;

const raw = (thing) => thing?.__v_raw ?? thing; // the front end hands out proxies of what it keeps
const notOurs = new WeakMap(); // tracker -> locator -> a report among its outputs that is not its own, or is old
const used = new Set(); // keys of workflows that were opened or written since the page was loaded

export const isOurs = (type) => OURS.test(type ?? "");
export const rootGraph = () => app.rootGraph ?? app.graph;
export const active = () => app.extensionManager?.workflow?.activeWorkflow ?? null;
export const trackerOf = (workflow) => raw(workflow?.changeTracker) ?? null;
const opened = () => app.extensionManager?.workflow?.openWorkflows ?? [];

/** A node's place in a workflow: "7", or "a subgraph's id:7". */
export function locatorOf(node) {
  return node.graph && node.graph !== rootGraph() ? `${node.graph.id}:${node.id}` : String(node.id);
}

/** The node of the open workflow at "7", at "3:7" (7 within the subgraph node 3), or at "a subgraph's id:7". */
export function nodeAt(path) {
  const steps = String(path).split(":");
  let graph = rootGraph();
  const within = steps.length === 2 && graph?.subgraphs?.get?.(steps[0]);
  if (within) return within._nodes.find((node) => String(node.id) === steps[1]) ?? null;
  for (const step of steps.slice(0, -1)) graph = graph?._nodes.find((node) => String(node.id) === step)?.subgraph;
  return graph?._nodes.find((node) => String(node.id) === steps.at(-1)) ?? null;
}

/** The same in a workflow as it is saved. */
export function savedAt(state, path) {
  const steps = String(path).split(":"), subgraphs = state?.definitions?.subgraphs ?? [];
  const named = (id) => subgraphs.find((subgraph) => subgraph.id === id);
  let nodes = state?.nodes;
  if (steps.length === 2 && named(steps[0])) nodes = named(steps.shift()).nodes;
  for (; steps.length > 1; steps.shift()) {
    nodes = named(nodes?.find((node) => String(node.id) === steps[0])?.type)?.nodes;
  }
  const found = nodes?.find((node) => String(node.id) === steps[0]);
  return found && isOurs(found.type) ? found : null;
}

function statesOf(workflow) {
  const tracker = trackerOf(workflow);
  if (!tracker) return [];
  const { initialState, activeState, undoQueue = [], redoQueue = [] } = tracker;
  return [...new Set([initialState, activeState, ...undoQueue, ...redoQueue].map(raw).filter(Boolean))];
}

/** The open workflow that a message of the server belongs to: the front end has put the output among that one's. Null
 * where no open one queued it. Front end 1.27 puts it among the active one's as well, whosever it is. */
export function ownerOf({ node, output }) {
  const holds = (workflow) => raw(raw(trackerOf(workflow)?.nodeOutputs)?.[node]) === raw(output);
  const holders = opened().filter(holds);
  return holders.find((workflow) => workflow !== active()) ?? holders[0] ?? null;
}

const drawn = (state) => (state?.nodes ?? []).map((node) => `${node.id} ${node.type}`).sort().join("\n");

/** The open workflow that a prompt was made of, by the workflow that went with it: of those with its id (templates share
 * one) the one with the same nodes, and the active one before others. */
export function ownerByGraph(graph, path, type) {
  if (!graph) return null;
  const stateOf = (workflow) => raw(trackerOf(workflow)?.activeState);
  const idOf = (workflow) => (workflow === active() ? rootGraph().id : stateOf(workflow)?.id);
  const all = [...new Set([active(), ...opened()])].filter((workflow) =>
    workflow && idOf(workflow) === graph.id && savedAt(stateOf(workflow), path)?.type === type);
  return all.find((workflow) => drawn(stateOf(workflow)) === drawn(graph)) ?? all[0] ?? null;
}

/** Keeps a report in every state of a workflow, and on the node itself where it is the open one. */
export function keep(workflow, path, kept) {
  const node = nodeOf(workflow, path);
  if (node) node.properties[KEPT] = kept;
  for (const state of statesOf(workflow ?? active())) {
    const saved = savedAt(state, path);
    if (saved) (saved.properties ??= {})[KEPT] = { ...kept };
  }
  store(workflow ?? active(), path, kept);
}

/** Keeps what stopped a node beside its last report; "" takes it away, for the node is to run again. */
export function keepError(workflow, path, error) {
  const shown = nodeOf(workflow, path) ?? savedAt(raw(trackerOf(workflow)?.activeState), path);
  const { error: _, ...before } = (shown && keptOf(shown)) ?? { text: "", marks: "", more: 0 };
  keep(workflow, path, { ...before, at: Date.now(), ...(error && { error }) });
}

/** When a node's report was kept, and what stopped it since. */
export function sinceOf(node) {
  const { at, error } = keptOf(node) ?? {};
  return { ...(at && { at }), ...(error && { error }) };
}

const nodeOf = (workflow, path) => (!workflow || workflow === active() ? nodeAt(path) : null);

export const keptOf = (node) => node.properties?.[KEPT];

/** A copy of a node has not run. */
export function forget(node) {
  if (node?.properties) delete node.properties[KEPT];
}

/** A node's properties and size, changed by us, are no change of the user's: the states have them too. */
export function keepSize(node, sizes) {
  const near = (size) => size && sizes.some(([width, height]) =>
    Math.abs(size[0] - width) < 2 && Math.abs(size[1] - height) < 2);
  for (const state of statesOf(active())) {
    const saved = savedAt(state, locatorOf(node));
    if (saved && near(saved.size)) saved.size = [node.size[0], node.size[1]];
  }
}

/** After a step of undo the state that is now the present one has what its nodes show. */
export function keepShown(node) {
  const saved = savedAt(raw(trackerOf(active())?.activeState), locatorOf(node)), kept = keptOf(node);
  if (saved && kept) (saved.properties ??= {})[KEPT] = { ...kept };
}

/** Notes that a report which lies among a workflow's outputs is another's, or an old one. */
export function disown(workflow, path, text) {
  const tracker = trackerOf(workflow);
  if (!tracker) return;
  if (!notOurs.has(tracker)) notOurs.set(tracker, new Map());
  notOurs.get(tracker).set(String(path), text);
}

/** Whether a report among the open workflow's outputs was disowned; `own` takes that back. */
export const isDisowned = (path, text) => notOurs.get(trackerOf(active()))?.get(String(path)) === text;
export const own = (workflow, path) => notOurs.get(trackerOf(workflow))?.delete(String(path));

function keyOf(workflow) {
  const id = workflow === active() ? rootGraph()?.id : trackerOf(workflow)?.activeState?.id;
  return workflow?.path && id ? `${workflow.path}|${id}` : null;
}

function readStore() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {}; // nothing there, or a browser that keeps nothing
  }
}

function store(workflow, path, kept) {
  const key = keyOf(workflow);
  if (!key) return;
  used.add(key);
  const all = readStore(), before = all[key]?.nodes ?? {};
  delete all[key]; // the newest stands last
  all[key] = { nodes: { ...before, [path]: kept } };
  let written = JSON.stringify(all);
  for (const old of Object.keys(all)) {
    if (written.length <= MOST_STORED || old === key) break;
    delete all[old];
    written = JSON.stringify(all);
  }
  try {
    localStorage.setItem(STORE, written);
  } catch {
    // a browser that keeps nothing: the report lives as long as the page
  }
}

/** The reports that the browser kept for the workflow that is open, `[path, kept]`: once after a reload, and whenever a
 * file is opened that was not saved after its run. */
export function stored() {
  const workflow = active(), key = keyOf(workflow);
  if (!key || (workflow.isTemporary && used.has(key))) return [];
  used.add(key);
  return Object.entries(readStore()[key]?.nodes ?? {});
}
