// The list of LoRAs as text: what each line says, and edits that change no more of the text than they must.
// The same grammar as lora/formats/list_text.py; a test holds the two against each other. Nothing here knows the page.

const MOST_LORAS = 1000;
const LONGEST_LINE = 2000; // in characters, as Python counts them
const LIMIT = 100;
// what Python takes for white space and for the end of a line; JavaScript's \s is another set
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const LINE_END = /\r\n|[\n-\r\x1c-\x1e\x85\u2028\u2029]/g;
const COMMENT = new RegExp(`(?:^|${SPACE})#`);
const OFF = new RegExp(`^(?:off|-)${SPACE}+`, "i");
const WORDS = new RegExp(`(?:^|${SPACE})#${SPACE}*words${SPACE}*:(.*?)(?=${SPACE}#|$)`, "g");
const SPACES = new RegExp(`${SPACE}+`);
const IS_SPACE = new RegExp(SPACE);
const DIGITS = "\\p{Nd}(?:_?\\p{Nd})*"; // Python's float() takes every script's digits, and _ between two
const NUMBER = new RegExp(`^[+-]?(?:${DIGITS}\\.?(?:${DIGITS})?|\\.${DIGITS})(?:e[+-]?${DIGITS})?$`, "iu");
const FIELDS = ["on", "name", "model", "clip", "blocks"];

/** The lines of a text: [{written, end}]; `end` is the line's own line break, empty at the end of the text. */
export function splitLines(text) {
  const lines = [];
  let from = 0;
  for (const found of text.matchAll(LINE_END)) {
    lines.push({ written: text.slice(from, found.index), end: found[0] });
    from = found.index + found[0].length;
  }
  if (from < text.length) lines.push({ written: text.slice(from), end: "" });
  return lines;
}

const joined = (lines) => lines.map(({ written, end }) => written + end).join("");

/** A strength as Python's float() reads it; NaN where it is none from -100 to 100. */
export function readNumber(text) {
  const trimmed = text.slice(...trimmedSpan(text));
  if (!NUMBER.test(trimmed)) return NaN;
  const value = Number(trimmed.replace(/_/g, "").replace(/\p{Nd}/gu, digitOf));
  return Math.abs(value) <= LIMIT ? value : NaN;
}

/** A digit of any script; they lie in tens, one script's behind another's. */
function digitOf(letter) {
  let first = letter.codePointAt(0);
  const code = first;
  while (/\p{Nd}/u.test(String.fromCodePoint(first - 1))) first -= 1;
  return String((code - first) % 10);
}

/**
 * What a line says. `kind`: "lora" (with on, name, model, clip, blocks, comment, the trigger words that were chosen or
 * null, and the comment without them as note), "blank", "comment", or "broken" where it cannot be followed; and where
 * its parts stand in it.
 */
export function readLine(written) {
  // Python looks for a comment in the first characters alone
  const head = written.length > LONGEST_LINE ? [...written].slice(0, LONGEST_LINE + 1).join("") : written;
  const mark = head.search(COMMENT);
  const bodyEnd = mark < 0 ? head.length : mark;
  const [start, end] = trimmedSpan(head, 0, bodyEnd);
  if (start === end) return { kind: isBlank(written) ? "blank" : "comment" };
  if (written.length > LONGEST_LINE && [...written].length > LONGEST_LINE) return { kind: "broken" };
  const off = OFF.exec(head.slice(start, end));
  const parts = partSpans(head, start + (off ? off[0].length : 0), end);
  const [name, model = "", clip = "", blocks = ""] = parts.map((part) => head.slice(part.start, part.end));
  const strength = model ? readNumber(model) : 1;
  const strengthClip = clip ? readNumber(clip) : strength;
  if (!name || Number.isNaN(strength) || Number.isNaN(strengthClip)) return { kind: "broken" };
  const comment = mark < 0 ? "" : head.slice(...trimmedSpan(head, mark));
  const chosen = mark < 0 ? null : wordsSpan(head, mark);
  const words = chosen && splitWords(chosen.text);
  const note = chosen ? comment.replace(head.slice(chosen.from, chosen.to).trim(), "").trim() : comment;
  return {
    kind: "lora", on: !off, name, model: strength, clip: strengthClip, blocks, words, note, comment, parts, start, end,
  };
}

/** Where the comment with the chosen words lies, and what it says; null where there is none. */
function wordsSpan(head, from) {
  WORDS.lastIndex = from;
  const found = WORDS.exec(head);
  return found && { from: found.index, to: WORDS.lastIndex, text: found[1] };
}

/** The words between commas, each once. */
export function splitWords(text) {
  const words = text.split(/[,\n]/).map((part) => part.split(SPACES).filter(Boolean).join(" "));
  return [...new Set(words.filter(Boolean))];
}

/** A line with these trigger words chosen, or with the file's own where they are null; null where no line says so. */
export function editWords(written, words) {
  const before = readLine(written);
  if (before.kind !== "lora") return null;
  const old = wordsSpan(written, before.end);
  const bare = old ? written.slice(0, old.from) + written.slice(old.to) : written;
  const said = words && ` # words: ${words.join(", ")}`.trimEnd();
  const line = said === null ? bare : bare.slice(0, before.end) + said + bare.slice(before.end);
  const after = readLine(line);
  const same = after.kind === "lora" && FIELDS.every((field) => after[field] === before[field])
    && JSON.stringify(after.words) === JSON.stringify(words) && splitLines(line).length === 1;
  return same ? line : null;
}

/** Where the text from..to begins and ends without the space around it. */
function trimmedSpan(text, from = 0, to = text.length) {
  while (from < to && IS_SPACE.test(text[from])) from += 1;
  while (to > from && IS_SPACE.test(text[to - 1])) to -= 1;
  return [from, to];
}

function isBlank(text) {
  const [start, end] = trimmedSpan(text);
  return start === end;
}

/** The four parts between colons, the last with the colons that it has: where each lies, with and without spaces. */
function partSpans(text, from, to) {
  const parts = [];
  for (let at = from; at <= to; ) {
    const colon = parts.length < 3 ? text.slice(0, to).indexOf(":", at) : -1;
    const stop = colon < 0 ? to : colon;
    const [start, end] = trimmedSpan(text, at, stop);
    parts.push({ from: at, to: stop, start, end });
    at = stop + 1;
  }
  return parts;
}

/** The lines of a list as readLine has them, each with `written` and its `number` from 1. */
export function readList(text) {
  let count = 0;
  return splitLines(text).map(({ written }, place) => {
    const line = readLine(written);
    if (line.kind === "lora" && ++count > MOST_LORAS) line.kind = "broken";
    return { ...line, written, number: place + 1 };
  });
}

/** A line that says just this name, or null where the grammar has no way to write it. */
export function lineOf(name) {
  const line = readLine(name);
  const same = line.kind === "lora" && line.on && line.name === name && !line.comment;
  return same && splitLines(name).length === 1 ? `${name} : 1` : null;
}

/**
 * A line with other fields, {on, name, model, clip, blocks}: only what differs is written anew, spaces and the comment
 * stay. Null where the result would not say just that (a # in the blocks, a name that begins with "off ").
 */
export function editLine(written, change) {
  const before = readLine(written);
  if (before.kind !== "lora") return null;
  const wanted = { ...before, ...change };
  let line = written;
  for (const field of FIELDS) {
    const now = readLine(line);
    if (now.kind !== "lora") return null;
    if (now[field] !== wanted[field]) line = WRITERS[field](line, now, wanted[field]);
  }
  const after = readLine(line);
  const follows = after.kind === "lora" && [...FIELDS, "comment"].every((field) => after[field] === wanted[field]);
  return follows && splitLines(line).length === 1 ? line : null;
}

const put = (line, from, to, text) => line.slice(0, from) + text + line.slice(to);

const WRITERS = {
  on: (line, { start, parts }, on) => (on ? put(line, start, parts[0].from, "") : put(line, start, start, "off ")),
  name: (line, { parts }, name) => put(line, parts[0].start, parts[0].end, name),
  model: (line, now, value) => putPart(line, now, 1, String(value)),
  clip: (line, now, value) => putPart(line, now, 2, String(value)),
  blocks: (line, now, text) =>
    text ? putPart(line, now, 3, text) : put(line, trimmedSpan(line, 0, now.parts[3].from - 1)[1], now.end, ""),
};

/** The part written anew; parts before it that are not there yet are written with what they mean. */
function putPart(line, now, place, text) {
  const part = now.parts[place];
  if (!part) {
    const missing = [now.model, now.clip].slice(now.parts.length - 1, place - 1).map((value) => `${value} : `).join("");
    return put(line, now.end, now.end, ` : ${missing}${text}`);
  }
  if (part.start < part.end) return put(line, part.start, part.end, text);
  return put(line, part.from, part.to, place < now.parts.length - 1 ? ` ${text} ` : ` ${text}`);
}

/** The text with one line written anew. */
export function replaceLine(text, place, written) {
  const lines = splitLines(text);
  lines[place].written = written;
  return joined(lines);
}

/** The text without one line. */
export function removeLine(text, place) {
  const lines = splitLines(text);
  const [gone] = lines.splice(place, 1);
  if (place === lines.length && place) lines[place - 1].end = gone.end; // the text ends as it did
  return joined(lines);
}

/** The text with one line at another place; the line breaks stay where they are. */
export function moveLine(text, from, to) {
  const lines = splitLines(text);
  const order = lines.map((line) => line.written);
  order.splice(to, 0, ...order.splice(from, 1));
  return order.map((written, place) => written + lines[place].end).join("");
}

/** The text with a line behind all others; it ends in a line break if it did before. */
export function addLine(text, written) {
  const lines = splitLines(text);
  const last = lines.at(-1);
  if (!last) return written;
  const end = last.end;
  last.end ||= lines[0].end || "\n";
  return joined([...lines, { written, end }]);
}

/** The text with a line once more, below itself. */
export function duplicateLine(text, place) {
  const lines = splitLines(text);
  const { written, end } = lines[place];
  lines.splice(place, 1, { written, end: end || lines[0].end || "\n" }, { written, end });
  return joined(lines);
}

/** The text with LoRAs switched on or off: `on` of each line's place; undefined leaves it. */
export function switchLines(text, on) {
  const lines = splitLines(text);
  lines.forEach((line, place) => {
    const wanted = on(place);
    if (wanted !== undefined) line.written = editLine(line.written, { on: wanted }) ?? line.written;
  });
  return joined(lines);
}

/** The text with one LoRA on and all others off; with all on where it is so already. */
export function soloLine(text, place) {
  const isOn = (line, at) => line.kind === "lora" && line.on === (at === place);
  const already = readList(text).every((line, at) => line.kind !== "lora" || isOn(line, at));
  return switchLines(text, (at) => already || at === place);
}
