// A picture of a gallery dragged onto a Load Image, or onto the empty canvas, where it gets one: the found file itself is
// loaded, not a copy of it.
import { app } from "../../scripts/app.js";

const LOADER = "LoadImage";
const ASSET = "application/x-comfy-asset-info"; // how the front end's own lists of pictures name what is dragged
const FLOATING = ".p-toast, [role=region] > ol > [role=alert]"; // messages lie over the canvas, as old and new front ends draw
// them: what is let go on one was meant for the canvas

let dragged = null; // the picture that is on its way: {filename, subfolder, type}

/** Lets a card be dragged. Not its image alone: a browser would add a file that is named after the address. */
export function letDrag(card, image, picture, address) {
  card.draggable = true;
  image.draggable = false;
  card.addEventListener("dragstart", (event) => {
    dragged = picture;
    event.dataTransfer.effectAllowed = "copy";
    event.dataTransfer.setData("text/uri-list", new URL(address, location.href).href);
    event.dataTransfer.setData(ASSET, JSON.stringify(picture));
    event.dataTransfer.setDragImage(image, image.clientWidth / 2, image.clientHeight / 2);
  });
  card.addEventListener("dragend", () => (dragged = null));
}

/** A file as the input of Load Image names it: "folder/cat.png [output]". */
export function annotated({ filename, subfolder = "", type = "input" }) {
  const path = subfolder ? `${subfolder}/${filename}` : filename;
  return type === "input" ? path : `${path} [${type}]`;
}

const fileOf = (node) => (node?.comfyClass?.startsWith(LOADER) ? node.widgets?.find(({ name }) => name === "image") : null);

function load(node, picture) {
  const widget = fileOf(node), value = annotated(picture), { values } = widget.options ?? {};
  if (Array.isArray(values) && !values.includes(value)) values.push(value);
  widget.value = value;
  widget.callback?.(value);
  node.setDirtyCanvas?.(true, true);
}

function place(at, picture) {
  const node = LiteGraph.createNode(LOADER);
  if (!node) return;
  node.pos = at;
  app.canvas.graph.add(node);
  load(node, picture);
}

function drop(event) {
  if (!dragged) return;
  const at = app.canvas.convertEventToCanvasOffset(event), node = app.canvas.graph.getNodeOnPos(at[0], at[1]);
  const isEmpty = !node && (event.target === app.canvas.canvas || event.target.closest?.(FLOATING));
  if (node ? !fileOf(node) && node.onDragDrop : !isEmpty) return; // another node's own matter, or no canvas
  event.preventDefault();
  event.stopPropagation();
  const picture = dragged;
  dragged = null;
  if (node && !fileOf(node)) return; // let go where nothing takes pictures
  app.canvas.emitBeforeChange?.();
  if (node) load(node, picture);
  else place([at[0], at[1]], picture);
  app.canvas.emitAfterChange?.();
}

/** Listens for pictures that are let go on the canvas, before the front end does. */
export function takeDrops() {
  window.addEventListener("dragover", (event) => dragged && event.preventDefault(), true);
  window.addEventListener("drop", drop, true);
}
