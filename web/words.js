// Loads the words of the front end's language before any node is made, and says them where the front end takes them from
// the nodes themselves: the values of menus, and the grey name in an empty field.
import { app } from "../../scripts/app.js";
import { isTranslated, loadWords, menuLabel } from "./words.mjs";

const OURS = /^CVL_/;
const ARROW_PX = 40; // at both ends of a menu

/** The values stay as they are in the workflow and in the prompt; only what is shown for them is another word. */
function sayMenu(widget) {
  if (!widget.options || widget.options.getOptionLabel) return;
  widget.options.getOptionLabel = (value) => (value === null || value === undefined ? "" : menuLabel(String(value)));
  if (!asksForLabels(widget)) sayOldMenu(widget);
}

/** Whether a menu's front end draws what `getOptionLabel` says. */
function asksForLabels(widget) {
  const { getOptionLabel } = widget.options, sign = "\u2713";
  widget.options.getOptionLabel = () => sign;
  const shown = widget._displayValue ?? sign;
  widget.options.getOptionLabel = getOptionLabel;
  return shown === sign || shown === ""; // nothing is shown where a link gives the value
}

/** Front end 1.27 asks for no labels: its menus are drawn and opened with them here. */
function sayOldMenu(widget) {
  const label = (value) => widget.options.getOptionLabel(value), { onClick } = widget;
  const get = () => (widget.computedDisabled ? "" : label(widget.value));
  Object.defineProperty(widget, "_displayValue", { get, configurable: true });
  widget.onClick = function (click) {
    const { e: event, node, canvas } = click, values = this.options.values;
    const x = event.canvasX - node.pos[0], width = this.width || node.size[0];
    if (!Array.isArray(values) || x < ARROW_PX || x > width - ARROW_PX) return onClick.call(this, click);
    const entries = values.map((value) => ({ content: label(value), value }));
    const callback = ({ value }) => this.setValue(value, click);
    new window.LiteGraph.ContextMenu(entries, { scale: Math.max(1, canvas.ds.scale), event, className: "dark", callback });
  };
}

/** Classic nodes write an input's name into its empty field; here its name in the front end's language. */
function sayPlaceholder(widget) {
  const field = widget.element ?? widget.inputEl;
  if (field?.placeholder === widget.name && widget.label) field.placeholder = widget.label;
}

app.registerExtension({
  name: "clip-vae-lora.words",
  init: loadWords,
  nodeCreated(node) {
    if (!isTranslated() || !OURS.test(node.comfyClass ?? "")) return;
    for (const widget of node.widgets ?? []) {
      if (widget.type === "combo") sayMenu(widget);
      else sayPlaceholder(widget);
    }
  },
});
