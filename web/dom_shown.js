// After undo, or whatever else makes the nodes of a workflow anew, the page shows the widgets of those that are there.
import { app } from "../../scripts/app.js";
import { showOwn } from "./dom_widget.mjs";

const LOOKS_MS = [0, 50, 200, 1000]; // the front end draws the nodes some time after they are made

const look = () => (app.canvas?.graph?._nodes ?? []).forEach(showOwn);

app.registerExtension({
  name: "clip-vae-lora.dom-shown",
  afterConfigureGraph() {
    for (const wait of LOOKS_MS) setTimeout(look, wait);
  },
});
