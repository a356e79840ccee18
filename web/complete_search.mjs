// Which word is being written, and which words begin like it. No page and no server: plain functions.

const STOPS = /[,\n()[\]{}|<>:]/; // between two words or phrases of a prompt
const LEAST = 2; // letters, before words are looked for
const MOST_STARTS = 4; // words back from the caret, at which a phrase may begin

/** A list made ready: [[word, count, [other names]]] -> entries sorted by what may be typed. */
export function prepare(words) {
  const entries = words.flatMap(([word, count, others]) => [
    { key: keyOf(word), word, count, as: "" },
    ...others.map((other) => ({ key: keyOf(other), word, count, as: other })),
  ]);
  return entries.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : b.count - a.count));
}

/** How a word is compared: small letters, and underscores as blanks. */
export function keyOf(word) {
  return word.toLowerCase().replaceAll("_", " ");
}

/** The entries that begin with `typed`, the most used first, each word once. */
export function beginning(entries, typed, most) {
  const key = keyOf(typed), best = [], there = new Set();
  for (let place = firstFrom(entries, key); place < entries.length && entries[place].key.startsWith(key); place++) {
    const entry = entries[place];
    if (best.length === 4 * most && entry.count <= best.at(-1).count) continue;
    let at = best.length;
    while (at > 0 && best[at - 1].count < entry.count) at--;
    best.splice(at, 0, entry);
    if (best.length > 4 * most) best.pop();
  }
  return best.filter(({ word }) => !there.has(word) && there.add(word)).slice(0, most);
}

function firstFrom(entries, key) {
  let low = 0, high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle].key < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The names in which each of the typed words stands, those that begin with them first. */
export function containing(names, typed, most) {
  const parts = keyOf(typed).split(/\s+/).filter(Boolean);
  const found = names.filter((name) => parts.every((part) => keyOf(name).includes(part)));
  const begins = (name) => keyOf(name).startsWith(keyOf(typed)) || keyOf(name).split("/").at(-1).startsWith(keyOf(typed));
  return [...found.filter(begins), ...found.filter((name) => !begins(name))].slice(0, most);
}

/** What stands before the caret: {kind, from, typed}; kind is "embedding", "network", "words" or null.
 * "words" has `starts`: the places at which the phrase that is being written may begin, the longest first. */
export function writtenAt(text, caret) {
  const line = text.slice(Math.max(0, caret - 200), caret), start = caret - line.length;
  if (/[\p{L}\p{N}_]/u.test(text[caret] ?? "")) return null; // in the middle of a word
  const embedding = /(?:^|[\s,([{|])embedding:([^\s,()[\]{}|<>]*)$/.exec(line);
  if (embedding) return { kind: "embedding", from: caret - embedding[1].length, typed: embedding[1] };
  const network = /<(?:lora|lyco|hypernet):[^<>]*$/.exec(line);
  if (network) return { kind: "network", from: start + network.index, typed: network[0] };
  let from = line.length;
  while (from > 0 && !STOPS.test(line[from - 1])) from--;
  const phrase = line.slice(from), starts = [];
  for (const { index } of phrase.matchAll(/(?<![^\s])\S/g)) starts.push(index);
  const fits = starts.map((index) => ({ from: start + from + index, typed: phrase.slice(index) }))
    .filter(({ typed }) => typed.trim().length >= LEAST).slice(-MOST_STARTS);
  return fits.length ? { kind: "words", starts: fits } : null;
}

/** A word as a prompt writes it: blanks for underscores, as A1111's tag completion does, and brackets as text. */
export function written(word) {
  const spaced = /[\p{L}\p{N}]_|_[\p{L}\p{N}]/u.test(word) ? word.replaceAll("_", " ") : word; // not in ^_^
  return spaced.replace(/[()]/g, "\\$&");
}
