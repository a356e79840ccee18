// What every DOM widget of ours needs of every front end.
import { app } from "../../scripts/app.js";

/** The options that keep a widget out of the prompt and out of the panels, where it would be an empty entry. */
export const OWN_WIDGET = { serialize: false, hideOnZoom: false, hideInPanel: true };

/** A widget of a node that is saved nowhere. It always has its node's width: the properties panel of some front ends
 * writes its own into `width`, and it would stay there after the panel is closed. */
export function addOwnWidget(node, name, type, element, options) {
  const widget = node.addDOMWidget(name, type, element, { ...OWN_WIDGET, ...options });
  element.dataset.cvlWidget = name;
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

/** Puts the elements of a node's widgets where the page shows those of a node before it. The Vue nodes of some front
 * ends take an element into the page once; a step of undo makes the node anew under the same id, and what is seen and
 * clicked would belong to the one that is gone. */
export function showOwn(node) {
  const isHere = (root) => root.closest("[data-node-id]")?.dataset.nodeId === String(node.id);
  for (const { name, element } of node.widgets ?? []) {
    if (!element?.dataset?.cvlWidget || element.isConnected) continue;
    const stale = [...document.querySelectorAll(`[data-node-id] [data-cvl-widget="${name}"]`)].find(isHere);
    stale?.replaceWith(element);
  }
}
