// The help pages of this pack in the narrow help panel: a table is no wider than it. Pages of others stay as they are;
// each of ours has its node's picture.
import { app } from "../../scripts/app.js";

const PAGE = ".node-help-content:has(img[src*='/CVL_'])";

// The names in the first column stay whole; a long word beside them is broken where there is no room for it.
const STYLE = `${PAGE} td:not(:first-child) { overflow-wrap: anywhere; }`;

app.registerExtension({
  name: "clip-vae-lora.help",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
  },
});
