// Bars, curves, matrices and tokens as HTML elements, each with the height in px that it needs at a width.
import { addressOf, tag } from "./gallery_home.mjs";
import { t } from "./words.mjs";

const BAR_PX = 20, CELL_PX = 28, TOKEN_PX = 26, LETTER_PX = 7.5;
const PLOT_PX = 90, LEGEND_PX = 18; // a line chart, and a line of text above or below it
const IN_A_ROW = 4, GAP_PX = 4, MOST_IMAGES = 64; // pictures
const COLD = [49, 84, 160], WARM = [214, 140, 40];

/** Rows {label, share 0..1, text, mark}, the first one or the marked ones in the strong colour; `line` 0..1 across all. */
export function bars({ rows, line, more }) {
  const made = tag("div", "cvl-bars"), marked = rows.some(({ mark }) => mark !== undefined);
  rows.forEach(({ label, share, text, mark }, place) => {
    const name = tag("div", "cvl-label", label), track = tag("div", "cvl-track"), fill = tag("div", "cvl-fill");
    name.title = label;
    fill.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
    fill.toggleAttribute("data-first", marked ? Boolean(mark) : place === 0);
    track.append(fill);
    if (line !== undefined) track.append(Object.assign(tag("div", "cvl-line"), { style: `left: ${100 * line}%` }));
    made.append(name, track, tag("div", "cvl-value", text));
  });
  if (more > 0) made.append(tag("div", ""), tag("div", "", t("and {} more", more)), tag("div", ""));
  return { made, heightAt: () => BAR_PX * (rows.length + (more > 0)) };
}

function colour(share) {
  const mix = COLD.map((low, place) => Math.round(low + (WARM[place] - low) * share));
  return `rgb(${mix.join(" ")})`;
}

/** Rows of cosines as coloured cells; the best of each row has a frame. */
export function heat({ rows, names, columns, best }) {
  const made = tag("div", "cvl-heat-room"), table = tag("table", "cvl-heat"), head = tag("tr", "");
  const known = rows.flat().filter((value) => value !== null), low = Math.min(...known), high = Math.max(...known);
  head.append(tag("th", ""));
  for (const column of columns) head.append(Object.assign(tag("th", "", column), { title: column }));
  table.createTHead().append(head);
  const body = table.createTBody();
  rows.forEach((row, place) => {
    const line = tag("tr", "");
    line.append(tag("th", "", names[place]));
    row.forEach((value, column) => {
      const cell = tag("td", "", value === null ? "-" : value.toFixed(3));
      if (value !== null) cell.style.background = colour(high > low ? (value - low) / (high - low) : 0.5);
      cell.style.color = "#fff";
      cell.toggleAttribute("data-best", best[place] === column);
      line.append(cell);
    });
    body.append(line);
  });
  made.append(table);
  return { made, heightAt: () => CELL_PX * (rows.length + 1) + 16 };
}

/** Tokens as chips, redder above a weight of 1 and bluer below. */
export function tokens({ pieces }) {
  const made = tag("div", "cvl-tokens");
  for (const { text, weight } of pieces) {
    const chip = tag("span", "", weight === 1 ? text : `${text} ${weight.toFixed(2)}`);
    const strength = Math.min(0.6, Math.abs(weight - 1));
    if (strength) chip.style.background = weight > 1 ? `rgb(220 60 60 / ${strength})` : `rgb(70 120 230 / ${strength})`;
    made.append(chip);
  }
  const length = pieces.reduce((sum, { text, weight }) => sum + (text.length + (weight === 1 ? 0 : 5)) * LETTER_PX + 17, 0);
  return { made, heightAt: (width) => TOKEN_PX * Math.ceil(length / Math.max(100, width - 60)) };
}

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** A curve's points as "M x y L x y": a gap where there is no number, a short stroke for a number between two gaps. */
function path(values, across, up) {
  return values.map((value, place) => {
    if (value === null) return "";
    const begins = place === 0 || values[place - 1] === null, x = across(place), y = up(value);
    return begins ? `M${x - 1} ${y}L${x} ${y}` : `L${x} ${y}`;
  }).join("");
}

/** Curves over tokens or steps, {name, values, tone} each, from `low` to `high`; `borders` are the tokens that begin a
 * chunk. `at`: where each value of a curve stands, 0..1; without, the values stand side by side. `high_px`: of the plot. */
export function curves({ series, borders, count, from, to, low, high, log, high_px: px = PLOT_PX }) {
  const made = tag("div", "cvl-curves"), legend = tag("div", "cvl-legend"), below = tag("div", "cvl-axis");
  const scaled = log ? Math.log : Number, span = scaled(high) - scaled(low) || 1;
  const up = (value) => 98 - 96 * ((scaled(value) - scaled(low)) / span), across = (place) => (1000 * (place + 0.5)) / count;
  const along = (at) => (place) => 2 + 996 * at[place];
  const svg = drawn("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none" });
  made.style.gridTemplateRows = `${LEGEND_PX}px ${px}px ${LEGEND_PX}px`;
  for (const place of borders) svg.append(drawn("line", { x1: across(place - 0.5), x2: across(place - 0.5), y1: 0, y2: 100, class: "cvl-border" }));
  for (const { name, values, tone, at } of series) {
    svg.append(drawn("path", { d: path(values, at ? along(at) : across, up), "data-tone": tone }));
    legend.append(Object.assign(tag("span", "", name), { title: name }));
    legend.lastChild.dataset.tone = tone;
  }
  const shown = (value) => String(Number(value.toPrecision(3)));
  const scale = tag("div", "cvl-scale");
  scale.append(tag("span", "", shown(high)), tag("span", "", shown(low)));
  below.append(tag("span", "", from), tag("span", "", to ?? String(count - 1)));
  made.append(legend, scale, svg, below);
  return { made, heightAt: () => px + 2 * LEGEND_PX };
}

const images = new Map(); // address -> the element that shows it: one that is drawn anew would flicker

function picture(address) {
  const made = images.get(address) ?? Object.assign(tag("img", ""), { src: address, decoding: "async", draggable: false });
  images.delete(address);
  images.set(address, made); // the newest stands last
  if (images.size > MOST_IMAGES) images.delete(images.keys().next().value);
  return made;
}

/** Small pictures in rows, {image, label} each; a click opens one. */
export function pictures({ pictures: all }) {
  const made = tag("div", "cvl-samples");
  for (const { image, label } of all) {
    const link = Object.assign(tag("a", ""), { href: addressOf(image), target: "_blank", rel: "noopener", title: label });
    link.append(picture(link.href), tag("span", "", label));
    link.addEventListener("pointerdown", (event) => event.stopPropagation());
    made.append(link);
  }
  const rows = Math.ceil(all.length / IN_A_ROW), side = (width) => (width - (IN_A_ROW - 1) * GAP_PX) / IN_A_ROW;
  return { made, heightAt: (width) => rows * (side(width) + LEGEND_PX + GAP_PX) };
}
