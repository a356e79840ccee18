// What is known of each row of a LoRA Stack: the file that it means, as the server says, and what the last run made of
// it. It is kept by the row's own text: an edited row has not run.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { readLine, readList, splitLines } from "./lora_lines.mjs";
import { saidOf } from "./report_errors.mjs";
import { packed, readMessage } from "./report_lines.mjs";
import { t, translated } from "./words.mjs";

const LINE = /^line (\d+) of the LoRAs: (.*)$/su;

const STORE = "cvl.loras.ran"; // in the browser's storage: [the text of a report, what it says of each row], newest last
const MOST_STORED = 40; // reports
const MOST_LETTERS = 20_000; // of a report

const past = new Map(); // the rows of a list -> what the last run of them made of each

/** Keeps what the server answered of each line: by its own text, so that moved lines keep it, and the file by its name. */
export function keepMeant(editor, written, answers) {
  editor.marks = new Map(answers.map((line) => [written[line.number - 1], line]));
  const files = answers.filter(({ file }) => file).map((line) => [readLine(written[line.number - 1]).name, line.file]);
  editor.files = new Map(files);
}

/** What a line means: a line that was edited since the server was asked means the file that its name meant. */
export function meantBy({ marks, files }, written) {
  const file = files.get(readLine(written).name);
  return marks.get(written) ?? (file && { file });
}

/** The rows of a node's report, by their text: {state, sentence}; null where a message has none. */
export function ranOf(message) {
  try {
    const { rows } = JSON.parse([message?.cvl_report].flat()[0]);
    const ran = new Map(rows.filter((row) => row.text).map(({ text, state, sentence }) => [text, { state, sentence }]));
    past.set([...ran.keys()].join("\n"), ran);
    store(packed(readMessage(message) ?? []).text, [...ran]);
    return ran;
  } catch {
    return null; // no report, or one of another version
  }
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? [];
  } catch {
    return []; // nothing there, or a browser that keeps nothing
  }
}

function store(text, ran) {
  const all = stored(), newest = all.at(-1);
  if (!text || JSON.stringify(ran).length > MOST_LETTERS || JSON.stringify(newest) === JSON.stringify([text, ran])) return;
  try {
    localStorage.setItem(STORE, JSON.stringify([...all.filter(([one]) => one !== text), [text, ran]].slice(-MOST_STORED)));
  } catch {
    // a browser that keeps nothing: the marks live as long as the page
  }
}

/** The same of the report that a node shows, which stays through a reload: what the run that made it said of the rows. */
export function ranReported(text) {
  const found = text && stored().find(([one]) => one === text);
  return found ? new Map(found[1]) : null;
}

/** The same of the outputs that the front end keeps for a node, after undo or a change of the tab. */
export function keptRun(node, outputs = app.nodeOutputs) {
  const own = node.graph && node.graph !== (app.rootGraph ?? app.graph) ? `${node.graph.id}:${node.id}` : String(node.id);
  return ranOf(outputs?.[own]);
}

/** What the last run of the same rows made of them, or null. */
function ranBefore(text) {
  const rows = readList(text).filter(({ kind }) => kind === "lora" || kind === "broken").map(({ written }) => written);
  return past.get([...new Set(rows)].join("\n")) ?? null;
}

/**
 * Calls `then(node id, mark)` when a run tells nothing of a node's rows: `mark(text)` has the line at which it stopped,
 * or all lines where the server had the result already.
 */
export function onUntold(then) {
  const last = (id) => String(id).split(":").at(-1);
  api.addEventListener("execution_cached", ({ detail }) => {
    for (const id of detail?.nodes ?? []) then(last(id), ranBefore);
  });
  api.addEventListener("execution_error", ({ detail }) => {
    const found = LINE.exec(saidOf(detail).trim());
    if (!found) return;
    const sentence = t("the run stopped here: {}", translated(found[2]));
    then(last(detail.node_id), (text) => {
      const written = splitLines(text)[Number(found[1]) - 1]?.written;
      return new Map(written ? [[written, { state: "failed", sentence }]] : []);
    });
  });
}
