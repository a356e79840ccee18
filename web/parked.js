// A node of ours that lies on the canvas connected to nothing takes no part in a Run, as with stock nodes.
import { app } from "../../scripts/app.js";

const PREFIX = "CVL_";
const WIDGETS = ["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"];

/** Whether a definition says that the node runs by itself, but only on something that comes by a link, or is chosen. */
export function waitsForALink({ name, output_node, input }) {
  const kinds = Object.values(input?.required ?? {}).map(([kind]) => kind);
  return name.startsWith(PREFIX) && Boolean(output_node)
    && (!kinds.length || kinds.some((kind) => typeof kind === "string" && !WIDGETS.includes(kind)));
}

/** Whether a node that needs no link has a file chosen in one of its menus. */
export function hasAChoice({ input }, node) {
  const needsALink = Object.keys(input?.required ?? {}).length > 0;
  return !needsALink && Boolean(node.widgets?.some(({ type, value }) => type === "combo" && value !== "none"));
}

/** Whether nothing is connected to a node: it was put aside, and would only fail. */
export function isParked(node) {
  return !node.inputs?.some((_, slot) => node.isInputConnected(slot))
    && !node.outputs?.some((_, slot) => node.isOutputConnected(slot));
}

app.registerExtension({
  name: "clip-vae-lora.parked",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!waitsForALink(nodeData)) return;
    // the front end's own word for a node that is not sent to the server: Note and Reroute have it
    Object.defineProperty(nodeType.prototype, "isVirtualNode", {
      configurable: true,
      get() {
        return isParked(this) && !hasAChoice(nodeData, this);
      },
    });
  },
});
