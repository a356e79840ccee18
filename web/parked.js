// A node of ours that lies on the canvas connected to nothing takes no part in a Run, as with stock nodes.
import { app } from "../../scripts/app.js";

const PREFIX = "CVL_";
const WIDGETS = ["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"];
const NORMAL = 0; // the mode of a node that is neither muted nor bypassed

const asks = new WeakMap(); // class of a node of ours that runs by itself -> what it waits for

/** What a node waits for that runs by itself: a link, or that something is chosen in one of `menus`, input -> the value
 * that stands for nothing. Null for a node that has something to do as it is. */
export function waitsFor({ name, output_node, input }) {
  if (!name.startsWith(PREFIX) || !output_node) return null;
  const required = Object.values(input?.required ?? {}).map(([kind]) => kind);
  const link = required.some((kind) => typeof kind === "string" && !WIDGETS.includes(kind));
  const inputs = Object.entries({ ...input?.required, ...input?.optional });
  const nothing = inputs.filter(([, spec]) => "cvl_nothing" in (spec[1] ?? {}));
  const menus = new Map(nothing.map(([key, spec]) => [key, spec[1].cvl_nothing]));
  return link || !required.length || menus.size ? { link, menus } : null;
}

/** Whether nothing is connected to a node: it was put aside. */
export function isParked(node) {
  return !node.inputs?.some((_, slot) => node.isInputConnected(slot))
    && !node.outputs?.some((_, slot) => node.isOutputConnected(slot));
}

const hasAChoice = ({ menus }, node) =>
  Boolean(node.widgets?.some(({ name, value }) => menus.has(name) && String(value).trim() !== menus.get(name)));

/** Whether a node has nothing to work on: what it needs is not connected, and nothing is chosen. */
function isIdle(node) {
  const waiting = asks.get(node.constructor);
  return Boolean(waiting) && isParked(node) && (waiting.link || !hasAChoice(waiting, node));
}

function* everyNode() {
  const root = app.rootGraph ?? app.graph;
  for (const graph of [root, ...(root?.subgraphs?.values?.() ?? [])]) yield* graph?._nodes ?? [];
}

/** Whether a Run has something to do without this node. */
function othersWork(node) {
  for (const other of everyNode()) {
    const works = other.constructor?.nodeData?.output_node && (other.mode ?? NORMAL) === NORMAL;
    if (other !== node && works && !isIdle(other)) return true;
  }
  return false;
}

app.registerExtension({
  name: "clip-vae-lora.parked",
  beforeRegisterNodeDef(nodeType, nodeData) {
    const waiting = waitsFor(nodeData);
    if (!waiting) return;
    asks.set(nodeType, waiting);
    const failsAlone = waiting.link || !Object.keys(nodeData.input?.required ?? {}).length;
    // the front end's own word for a node that is not sent to the server: Note and Reroute have it
    Object.defineProperty(nodeType.prototype, "isVirtualNode", {
      configurable: true,
      get() {
        return isIdle(this) && (failsAlone || othersWork(this)); // alone on the canvas it says what it lacks
      },
    });
  },
});
