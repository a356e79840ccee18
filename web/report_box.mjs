// The box of a report on its node: as high as its text up to some lines, then it scrolls; folds, copies, colours.
import { copied } from "./clipboard.mjs";
import { addOwnWidget } from "./dom_widget.mjs";
import { tabled } from "./report_grid.mjs";
import { gravest, textOf } from "./report_lines.mjs";
import { HEAD_PX, LINE_PX, installStyle } from "./report_style.mjs";
import { growTo, isVue, laidOutHeight, neededHeight, roomOf, spareBelow } from "./report_room.mjs";
import { element } from "./prompt_panel.mjs";
import { t, translated } from "./words.mjs";

const WIDGET = "cvl_report";
const FOLDED = "cvl_report_folded"; // among the node's properties
const MARGIN_PX = 6;
const PADDING_PX = 4; // under the last line
const MOST_LINES = 12; // longer reports scroll
const LEAST_LINES = 3; // of a longer one, where there is no room for more before the node below
const ROW_GAP_PX = 4; // between the widgets of a Vue node
const TIGHT_PX = 12; // a node that is not higher than it must be has this much to spare at most
const COPIED_MS = 1200;

const boxOf = new WeakMap(); // node -> its box

/** The box of a node, if it has one. */
export const boxAt = (node) => boxOf.get(node);

function classed(tag, name, text = "") {
  const made = element(tag, {}, text);
  made.className = name;
  if (tag === "button") made.type = "button";
  return made;
}

function makeBox(node) {
  installStyle();
  const root = classed("div", "cvl-report"), head = classed("div", "cvl-report-head");
  const fold = classed("button", "cvl-report-fold"), copy = classed("button", "cvl-report-copy", t("copy"));
  const body = classed("div", "cvl-report-body");
  copy.title = t("Copy the whole report");
  head.append(fold, copy);
  root.append(head, body);
  const box = { node, root, fold, copy, body, lines: [], folded: Boolean(node.properties?.[FOLDED]), most: MOST_LINES };
  fold.addEventListener("click", () => toggle(box));
  copy.addEventListener("click", () => copyText(box));
  body.addEventListener("wheel", (event) => body.scrollHeight > body.clientHeight && event.stopPropagation());
  body.addEventListener("pointerdown", (event) => event.stopPropagation()); // marks text, does not drag the node
  const height = (lines) => heightOf(box, lines) + 2 * MARGIN_PX;
  box.widget = addOwnWidget(node, WIDGET, "cvl_text", root, {
    margin: MARGIN_PX,
    getMinHeight: () => height(box.most),
    getMaxHeight: () => height(Infinity),
  });
  boxOf.set(node, box);
  return box;
}

/** Shows lines on a node, or takes the box away where there are none. The box stands below the widgets and above the
 * pictures, whichever came first. */
export function showLines(node, lines, { restored = false } = {}) {
  if (!lines?.length) return removeBox(node);
  const box = boxOf.get(node) ?? makeBox(node);
  const said = (text, own) => text.split("\t").map((cell) => translated(cell, own)).join("\t");
  lines = lines.map(({ own, ...line }) => ({ ...line, text: said(line.text, own) }));
  box.lines = lines;
  box.body.replaceChildren(...tabled(lines, ({ text, mark, earlier }) => {
    const line = classed("div", "cvl-report-line", text);
    if (mark) line.dataset.mark = mark;
    line.toggleAttribute("data-earlier", Boolean(earlier));
    return line;
  }));
  putInPlace(box);
  paintHead(box);
  fit(box, { restored });
}

function removeBox(node) {
  const box = boxOf.get(node);
  if (!box) return;
  boxOf.delete(node);
  const tight = node.size[1] - neededHeight(node) < TIGHT_PX;
  node.widgets.splice(node.widgets.indexOf(box.widget), 1);
  box.widget.onRemove?.();
  box.root.remove();
  if (tight) growTo(node, Math.max(box.base, neededHeight(node)));
  node.setDirtyCanvas?.(true, true);
}

/** The front end's own widgets under a node, its pictures above all, have names that begin with $$; ours are a box. */
function putInPlace({ node, widget }) {
  const isPictures = ({ name, type }) => type === "cvl_pictures" || name?.startsWith("$$");
  const at = node.widgets.indexOf(widget), behind = node.widgets.findIndex(isPictures);
  if (behind < 0 || at < behind) return;
  node.widgets.splice(at, 1);
  node.widgets.splice(behind, 0, widget);
}

function paintHead(box) {
  const mark = gravest(box.lines), first = box.lines.find((line) => line.mark === mark) ?? box.lines[0];
  box.root.toggleAttribute("data-folded", box.folded);
  box.root.dataset.mark = mark;
  box.fold.textContent = box.folded ? `▸ ${first.text.trim()}` : `▾ ${t(mark === "error" ? "error" : "report")}`;
  box.fold.title = box.folded ? t("Click: show the report") : t("Click: fold the report");
  box.fold.setAttribute("aria-expanded", String(!box.folded));
  if (box.folded && mark) box.fold.dataset.mark = mark;
  else delete box.fold.dataset.mark;
}

function toggle(box) {
  box.folded = !box.folded;
  if (box.folded) box.node.properties[FOLDED] = true;
  else delete box.node.properties[FOLDED];
  paintHead(box);
  fit(box, { asked: !box.folded });
}

async function copyText(box) {
  const said = await copied(textOf(box.lines)) ? t("copied") : t("not copied");
  box.copy.textContent = said;
  setTimeout(() => (box.copy.textContent = t("copy")), COPIED_MS);
}

let measure = null; // a box that nobody sees, as wide as the one in question

/** The height of a box's whole text at a width, as the page would lay it out. */
function textHeight(box, width) {
  if (!measure) {
    measure = classed("div", "cvl-report-measure");
    document.body.append(measure);
  }
  measure.style.width = `${width}px`;
  const copy = box.body.cloneNode(true);
  copy.style.maxHeight = "none";
  copy.style.flex = "0 0 auto";
  measure.replaceChildren(copy);
  const height = Math.ceil(copy.getBoundingClientRect().height);
  measure.replaceChildren();
  return height;
}

function heightOf(box, most) {
  if (box.folded) return HEAD_PX;
  const width = Math.max(60, Math.round(box.node.size[0]) - 2 * MARGIN_PX);
  if (box.measured?.width !== width || box.measured.lines !== box.lines) {
    box.measured = { width, lines: box.lines, height: textHeight(box, width) };
  }
  return HEAD_PX + Math.min(box.measured.height, most * LINE_PX + PADDING_PX);
}

/** The height that is free for the text, up to the title of the node below. */
function roomFor(box) {
  const { node, shown = 0 } = box;
  if (!isVue()) {
    const slack = shown ? 0 : Math.max(0, node.size[1] - neededHeight(node, box.widget)) - 2 * MARGIN_PX - 4;
    return shown + slack + Math.max(0, spareBelow(node)) - HEAD_PX - PADDING_PX;
  }
  const pictures = node.widgets.filter(({ type }) => type === "cvl_pictures");
  const heights = pictures.map(({ element: root, options }) => [root, options.getLeastHeight()]);
  const around = HEAD_PX + PADDING_PX, missing = box.root.isConnected ? 0 : around + ROW_GAP_PX;
  return roomOf(node) - laidOutHeight(node, [[box.root, around], ...heights]) - missing;
}

/** The lines that are shown at once. A report of up to twelve is whole; a longer one scrolls, so it keeps the node from
 * growing over the one below. */
function linesShown(box) {
  heightOf(box, MOST_LINES); // measures it
  if (box.folded || box.measured.height <= MOST_LINES * LINE_PX + PADDING_PX) return MOST_LINES;
  return Math.max(LEAST_LINES, Math.min(MOST_LINES, Math.floor(roomFor(box) / LINE_PX)));
}

/** Makes the node as high as it must be. It shrinks again where it had grown for this box, not where the user has
 * given it its size; it goes over the node below it only where he asked for that by a click. */
function fit(box, { restored = false, asked = false } = {}) {
  const { node, shown = 0 } = box;
  box.base ??= restored ? 0 : node.size[1];
  const grew = isVue() ? box.settled > box.base + 2 && Math.abs(node.size[1] - box.settled) < 2
    : node.size[1] - box.needed < TIGHT_PX;
  const tight = shown && grew;
  box.most = asked ? MOST_LINES : linesShown(box);
  box.shown = heightOf(box, box.most);
  box.body.style.maxHeight = isVue() ? `${box.most * LINE_PX + PADDING_PX}px` : "";
  // the Vue nodes are narrower within than is known here, so their text may have more lines than were measured
  box.root.style.maxHeight = isVue() ? "fit-content" : `${heightOf(box, Infinity)}px`;
  box.needed = neededHeight(node);
  const needed = isVue() ? node.size[1] + box.shown - shown : box.needed;
  if (tight) growTo(node, Math.max(needed, box.base));
  else if (!isVue() && needed > node.size[1]) growTo(node, needed);
  noteSettled(box);
  node.setDirtyCanvas?.(true, true);
}

/** The Vue nodes get their height when the page lays them out. */
function noteSettled(box) {
  const note = () => (box.settled = box.node.size[1]);
  note();
  requestAnimationFrame(() => requestAnimationFrame(note));
}
