// The panel under a prompt's count: every token, coloured by its weight, chunk by chunk. Text is only ever set as text.
import { t } from "./words.mjs";

const FULL_COLOUR_AT = 0.6; // a weight this far from 1 has the deepest colour
const HEAVIER = "220, 60, 60";
const LIGHTER = "70, 120, 230";

/** A new element with a style and a text. */
export function element(tag, style = {}, text = "") {
  const made = document.createElement(tag);
  Object.assign(made.style, style);
  made.textContent = text;
  return made;
}

/** The colour behind a token: none at weight 1, red above, blue below, deeper with the distance. */
export function colourOf(weight) {
  const distance = Math.min(1, Math.abs(weight - 1) / FULL_COLOUR_AT);
  if (distance === 0) return "transparent";
  return `rgba(${weight > 1 ? HEAVIER : LIGHTER}, ${(0.2 + 0.65 * distance).toFixed(2)})`;
}

/** What a chunk is called, and how it is joined to what stands before it. */
function chunkTitle(chunk, number, limit) {
  const joined = chunk.join ? `${chunk.join} ${chunk.weight} · ` : "";
  return joined + t("chunk {} · {} / {}", number, chunk.used, limit);
}

function tokenMark(piece) {
  const mark = element("span", {
    background: colourOf(piece.weight), borderRadius: "3px", padding: "0 1px", whiteSpace: "pre-wrap",
  }, piece.text);
  const weight = t("weight {}", piece.weight);
  if (piece.id === null) {
    mark.textContent = t("embedding ×{}", piece.vectors);
    Object.assign(mark.style, { outline: "1px dashed currentColor", margin: "0 3px", padding: "0 3px" });
    mark.title = `${t("vectors: {}", piece.vectors)} · ${weight}`;
  } else {
    mark.title = `id ${piece.id} · ${weight}`;
  }
  return mark;
}

function chunkBox(chunk, number, limit) {
  const box = element("div", { borderTop: "1px solid var(--border-color, #666)", padding: "2px 0 5px" });
  const title = element("div", { opacity: "0.65", fontSize: "10px" }, chunkTitle(chunk, number, limit));
  const tokens = element("div", { lineHeight: "1.65", overflowWrap: "anywhere" });
  for (const piece of chunk.pieces ?? []) tokens.append(tokenMark(piece), "\u200b"); // a place where a line may break
  box.append(title, tokens);
  return box;
}

/** Fills the panel with an answer of the route, or with why there is none. */
export function fillPanel(panel, answer) {
  const said = answer.error ? [answer.error] : (answer.notes ?? []);
  const parts = said.map((note) => Object.assign(element("div", {}, `⚠ ${note}`), { className: "cvl-prompt-said" }));
  if (answer.embeddings?.length) parts.push(element("div", {}, t("embeddings: {}", answer.embeddings.join(", "))));
  (answer.chunks ?? []).forEach((chunk, place) => parts.push(chunkBox(chunk, place + 1, answer.limit)));
  if (answer.more) parts.push(element("div", { opacity: "0.65" }, t("… and {} more tokens, not shown", answer.more)));
  const scrolled = panel.scrollTop;
  panel.replaceChildren(...parts);
  panel.scrollTop = scrolled;
}
