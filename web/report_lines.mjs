// The lines of a report and how grave each is. Pure: nothing of the page is touched here.

const MARKS = [ // what a line begins with, and how grave that makes it
  [/^\s*(?:✖|✗|❌|⛔|error\b)/iu, "error"],
  [/^\s*(?:⚠|note\b|warning\b|careful\b)/iu, "note"],
  [/^\s*(?:✓|✔|✅)/u, "good"],
];
const GRAVITY = { error: 2, note: 1, good: 0, "": 0 };
const LETTERS = { e: "error", n: "note", g: "good", ".": "" };
const MOST_KEPT = 4000; // letters of a report that are kept with a workflow

/** The notes that the report's JSON names, which stand among its lines. */
function notesOf(json) {
  try {
    const notes = JSON.parse(json)?.notes;
    return new Set(Array.isArray(notes) ? notes.filter((note) => typeof note === "string") : []);
  } catch {
    return new Set(); // no JSON, or none that is whole: the lines stand for themselves
  }
}

/** How grave a line is: by `cvl_marks`, by its first sign, or because the JSON calls it a note. */
function markOf(line, given, notes) {
  if (given in GRAVITY) return given;
  const found = MARKS.find(([sign]) => sign.test(line));
  if (found) return found[1];
  return notes.has(line) || notes.has(line.trim()) ? "note" : "";
}

/** A node's message as lines `{text, mark}`, gravest first; lines set in belong to the one above them. Null without.
 * `own` are the parts of a line that are words of a file or of the user. */
export function readMessage(message) {
  if (!message?.text) return null;
  const texts = [message.text].flat().join("\n").split("\n");
  const notes = notesOf([message.cvl_report].flat()[0]);
  const given = [message.cvl_marks ?? []].flat();
  const own = ownOf(message.cvl_own);
  return gravestFirst(texts.map((text, place) => withOwn({ text, mark: markOf(text, given[place], notes) }, own)));
}

const ownOf = (own) => [own ?? []].flat().filter((part) => typeof part === "string");

function withOwn(line, own) {
  const parts = own.filter((part) => line.text.includes(part));
  return parts.length ? { ...line, own: parts } : line;
}

function gravestFirst(lines) {
  const groups = [];
  for (const line of lines) {
    const belongs = groups.length && /^\s+\S/.test(line.text) && !line.mark;
    if (belongs) groups.at(-1).push(line);
    else groups.push([line]);
  }
  const order = (group) => GRAVITY[group[0].mark];
  return groups.map((group, place) => ({ group, place }))
    .sort((a, b) => order(b.group) - order(a.group) || a.place - b.place)
    .flatMap(({ group }) => group);
}

/** The gravest mark among lines. */
export function gravest(lines) {
  return ["error", "note", "good"].find((mark) => lines.some((line) => line.mark === mark)) ?? "";
}

/** The text of lines. */
export function textOf(lines) {
  return lines.map((line) => line.text).join("\n");
}

/** What a node shows that was stopped: what stopped it, and below that the report of an earlier run, said to be one. Its
 * marks are gone, for what they warned of may be mended. */
export function stopped(errors, report, heading) {
  if (!report.length) return errors;
  const earlier = [{ text: heading }, ...report].map((line) => ({ ...line, mark: "", earlier: true }));
  return [...errors, ...earlier];
}

/** What is kept of a report with its workflow: `{text, marks, own}`, cut to a few kB at a line's end. */
export function packed(lines) {
  const kept = [];
  let letters = 0;
  for (const line of lines) {
    letters += line.text.length + 1;
    if (letters > MOST_KEPT && kept.length) break;
    kept.push({ ...line, text: line.text.slice(0, MOST_KEPT) });
  }
  const sign = ({ mark }) => Object.keys(LETTERS).find((letter) => LETTERS[letter] === mark);
  const own = [...new Set(kept.flatMap((line) => line.own ?? []))];
  return { text: textOf(kept), marks: kept.map(sign).join(""), more: lines.length - kept.length, ...(own.length && { own }) };
}

/** The lines of a kept report; null where there is none that can be read. */
export function unpacked(kept) {
  if (typeof kept?.text !== "string" || !kept.text) return null;
  const lines = kept.text.split("\n"), own = ownOf(kept.own);
  return lines.map((text, place) => withOwn({ text, mark: LETTERS[String(kept.marks ?? "")[place]] ?? "" }, own));
}
