// Bars, matrices and tokens as HTML elements, each with the height in px that it needs at a width.
import { tag } from "./gallery_home.mjs";
import { t } from "./words.mjs";

const BAR_PX = 20, CELL_PX = 28, TOKEN_PX = 26, LETTER_PX = 7.5;
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
