// What was picked by hand, as the `picked` input of a node holds it: places ("3, 0") or names as a JSON list.

const WIDGET = "picked";
const widgetOf = (node) => node.widgets?.find(({ name }) => name === WIDGET);

/** The picks of a node in their order, as texts. */
export function picksOf(node) {
  const text = String(widgetOf(node)?.value ?? "").trim();
  if (!text) return [];
  try {
    const list = JSON.parse(text);
    if (Array.isArray(list)) return list.map(String);
  } catch {
    // written by hand: places with commas, or a name a line
  }
  const parts = /^[\d,;\s]+$/.test(text) ? text.split(/[,;\s]+/) : text.split("\n");
  return parts.map((part) => part.trim()).filter(Boolean);
}

/** Writes the picks into the node's input, as a change of the user's that can be undone. */
export function writePicks(node, picks) {
  const widget = widgetOf(node);
  if (!widget) return;
  const places = picks.every((pick) => /^\d+$/.test(pick));
  node.graph?.beforeChange?.();
  widget.value = !picks.length ? "" : places ? picks.join(", ") : JSON.stringify(picks);
  widget.callback?.(widget.value);
  node.graph?.afterChange?.();
  node.setDirtyCanvas?.(true, true);
}
