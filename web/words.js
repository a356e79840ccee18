// Loads the words of the front end's language before any node is made, and says them where the front end takes them from
// the nodes themselves: the values of menus, and the grey name in an empty field.
import { app } from "../../scripts/app.js";
import { isTranslated, loadWords, menuLabel } from "./words.mjs";

const OURS = /^CVL_/;

/** The values stay as they are in the workflow and in the prompt; only what is shown for them is another word. */
function sayMenu(widget) {
  if (!widget.options || widget.options.getOptionLabel) return;
  widget.options.getOptionLabel = (value) => (value === null || value === undefined ? "" : menuLabel(String(value)));
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
