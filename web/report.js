// Shows what a CVL node reported, under the node: the same lines that the API's /history has in `ui.text`.
import { app } from "../../scripts/app.js";

const PREFIX = "CVL_";
const WIDGET = "cvl_report";

const LINE_PX = 15.4;
const LETTER_PX = 6.7; // of 11 px monospace
const MOST_LINES = 12; // longer reports scroll

/** How many lines a text takes in a node of this width, long ones wrapped. */
function linesShown(text, nodeWidthPx) {
  const letters = Math.max(10, Math.floor((nodeWidthPx - 45) / LETTER_PX));
  return text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / letters)), 0);
}

/** A read-only text area on the node, made when there is first something to show. */
function reportWidget(node) {
  const found = node.widgets?.find((widget) => widget.name === WIDGET);
  if (found) return found;
  const element = document.createElement("pre");
  Object.assign(element.style, {
    margin: "0", padding: "4px 6px", overflow: "auto", whiteSpace: "pre-wrap", font: "11px/1.4 monospace",
    color: "var(--input-text, #ddd)", background: "var(--comfy-input-bg, #222)", borderRadius: "4px",
  });
  const widget = node.addDOMWidget(WIDGET, "cvl_text", element, {
    serialize: false, // not in the prompt
    hideOnZoom: false,
    getMinHeight: () => 16 + LINE_PX * Math.min(MOST_LINES, linesShown(element.textContent, node.size[0])),
  });
  widget.serialize = false; // not in widgets_values, where it would shift the others
  return widget;
}

app.registerExtension({
  name: "clip-vae-lora.report",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith(PREFIX)) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message) {
      onExecuted?.apply(this, arguments);
      if (!message?.text) return;
      reportWidget(this).element.textContent = [message.text].flat().join("\n");
      const [width, height] = this.computeSize();
      this.setSize([Math.max(width, this.size[0]), Math.max(height, this.size[1])]);
      this.setDirtyCanvas?.(true, true);
    };
  },
});
