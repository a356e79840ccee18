// What every DOM widget of ours needs of every front end.
import { app } from "../../scripts/app.js";

/** The options that keep a widget out of the prompt and out of the panels, where it would be an empty entry. */
export const OWN_WIDGET = { serialize: false, hideOnZoom: false, hideInPanel: true };

/** A widget of a node that is saved nowhere. It always has its node's width: the properties panel of some front ends
 * writes its own into `width`, and it would stay there after the panel is closed. */
export function addOwnWidget(node, name, type, element, options) {
  const widget = node.addDOMWidget(name, type, element, { ...OWN_WIDGET, ...options });
  widget.serialize = false; // not in widgets_values, where it would shift the others
  Object.defineProperty(widget, "width", { get: () => undefined, set: () => {}, configurable: true });
  keepOutOfSubgraphs(node, widget);
  return widget;
}

/** "Edit Subgraph Widgets" offers every widget within a subgraph that is not disabled, though without a value there is
 * nothing of ours to offer. It asks from outside; there, where the node is not to be seen, its widget counts as disabled. */
function keepOutOfSubgraphs(node, widget) {
  let disabled = widget.computedDisabled;
  const isOutside = () => Boolean(node.graph && app.canvas?.graph && node.graph !== app.canvas.graph);
  Object.defineProperty(widget, "computedDisabled", {
    get: () => disabled || isOutside(),
    set: (value) => (disabled = value),
    configurable: true,
  });
}
