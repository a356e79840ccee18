// Room on the canvas: how far a node may grow before it covers another.

const TITLE_PX = 30;
const GAP_PX = 6;

/** Whether nodes are drawn by the page, which then gives them their height, and not on the canvas. */
export const isVue = () => Boolean(window.LiteGraph?.vueNodesMode);

const drawnAt = (node) => isVue() ? document.querySelector(`[data-node-id="${node.id}"]`) : null;

/** The height of a node without its title, as it is drawn: not every front end writes that of a Vue node into its size. */
function drawnHeight(node) {
  const drawn = drawnAt(node);
  return drawn ? Math.max(drawn.offsetHeight - TITLE_PX, 0) : node.size[1];
}

/** How high a node may be, without its title, up to the title of the next node below; Infinity without one. */
export function roomOf(node) {
  const [left, top] = node.pos, [width] = node.size;
  const tops = (node.graph?._nodes ?? [])
    .filter((other) => other !== node && other.pos[0] < left + width && other.pos[0] + other.size[0] > left)
    .map((other) => other.pos[1] - TITLE_PX)
    .filter((y) => y > top + TITLE_PX);
  return tops.length ? Math.min(...tops) - GAP_PX - top : Infinity;
}

/** How far a node may grow; less than nothing where it has grown over one that begins below its title. */
export const spareBelow = (node) => roomOf(node) - drawnHeight(node);

/** The least height without its title that the page would give a Vue node, were some elements in it as high as said:
 * pairs of an element and its height in px. The page lays it out for that and shows nothing of it. */
export function laidOutHeight(node, heights) {
  const drawn = drawnAt(node);
  if (!drawn) return node.size[1];
  const asked = [[drawn, { minHeight: "0", height: "auto" }],
    ...heights.map(([root, px]) => [root, { minHeight: `${px}px`, maxHeight: `${px}px` }])];
  const before = asked.map(([root]) => root.style.cssText);
  for (const [root, style] of asked) Object.assign(root.style, style);
  const height = drawn.offsetHeight - TITLE_PX;
  asked.forEach(([root], at) => (root.style.cssText = before[at]));
  return height;
}

/** How far to the right of a node the canvas is free, up to the next node there, if the node is `height` px high. */
export function freeRight(node, height) {
  const [left, top] = node.pos, right = left + node.size[0];
  const lefts = (node.graph?._nodes ?? [])
    .filter((other) => other !== node && other.pos[1] - TITLE_PX < top + height
      && other.pos[1] + other.size[1] > top - TITLE_PX)
    .map((other) => other.pos[0])
    .filter((x) => x >= right - GAP_PX);
  return lefts.length ? Math.max(0, Math.min(...lefts) - GAP_PX - right) : Infinity;
}

/** The least height in which a node shows all its widgets. `computeSize` counts 4 px more for each widget that lays
 * itself out, and 12 px at the end, than the classic nodes then take; asked again and again the node would
 * grow. A widget `without` which it is asked for is not counted. */
export function neededHeight(node, without = null) {
  const own = node.widgets.filter((widget) => !widget.computeSize && widget.computeLayoutSize).length;
  const needed = node.computeSize([node.size[0], node.size[1]])[1] - 4 * own - 12;
  return without ? needed - without.options.getMinHeight() : needed;
}

/** Gives a node a height; its width stays. */
export function growTo(node, height) {
  if (Math.abs(height - node.size[1]) < 1) return;
  node.setSize([node.size[0], height]);
}
