// How high the rows of a LoRA Stack are, and which of rows and text is shown.
import { LINE_PX } from "./lora_rows.mjs";

export const HEAD_PX = 24, MARGIN_PX = 4;
const TEXT_PX = 70; // more than the least, for the text
const MOST_PX = 14 * LINE_PX; // longer lists scroll

/** Whether an editor shows its rows: not the text, and no list that comes by a link. */
export const rowsShown = (editor) => !editor.isText && !editor.linked;

/** Shows the text, and of the editor the head alone; or hides it, and shows the rows. */
export function showText({ node, widget, own }, on) {
  if (Boolean(widget.hidden) === !on && Object.hasOwn(own, "computeSize") === on) return;
  widget.hidden = widget.options.hidden = !on;
  // no room: frontend 1.27 counts hidden widgets; -4 is the gap that it puts between two
  if (on) delete widget.computeSize;
  else widget.computeSize = () => [0, -4];
  // a widget with this has just its height, in Vue nodes too if it has no layout size
  if (on) Object.assign(own, { computeSize: () => [0, HEAD_PX + 2 * MARGIN_PX], computeLayoutSize: undefined });
  else for (const name of ["computeSize", "computeLayoutSize"]) delete own[name];
  const place = node.widgets.indexOf(widget); // Vue nodes look again when the list of widgets changes
  node.widgets.splice(place, 1);
  node.widgets.splice(place, 0, widget);
}

/** The height that the rows need; the node follows it where it was just as high as it had to be. */
export function measure(editor) {
  const { node, box, rows } = editor;
  const all = rows.reduce((sum, { row }) => sum + row.height_px, 0);
  editor.height = HEAD_PX + (rowsShown(editor) ? Math.max(LINE_PX, Math.min(MOST_PX, all)) + 4 : 0);
  box.style.minHeight = `${editor.height}px`;
  const [width, computed] = node.computeSize();
  const least = computed + (rowsShown(editor) ? 0 : TEXT_PX);
  const [, now] = node.size;
  const follows = Math.abs(now - editor.fitted) < 2 && rowsShown(editor);
  if (now < least || (follows && now > least)) node.setSize([Math.max(width, node.size[0]), least]);
  if (now <= least + 1 || follows) editor.fitted = least;
  node.setDirtyCanvas?.(true, true);
}
