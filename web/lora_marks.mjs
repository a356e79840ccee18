// What the last run made of each row of a LoRA Stack. It is kept by the row's own text: an edited row has not run.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { splitLines } from "./lora_lines.mjs";
import { t } from "./words.mjs";

const LINE = /^line (\d+) of the LoRAs: (.*)$/su;

/** The rows of a node's report, by their text: {state, sentence}; null where a message has none. */
export function ranOf(message) {
  try {
    const { rows } = JSON.parse([message?.cvl_report].flat()[0]);
    return new Map(rows.filter((row) => row.text).map(({ text, state, sentence }) => [text, { state, sentence }]));
  } catch {
    return null; // no report, or one of another version
  }
}

/** The same of the outputs that the front end keeps for a node, after undo or a change of the tab. */
export function keptRun(node, outputs = app.nodeOutputs) {
  const own = node.graph && node.graph !== (app.rootGraph ?? app.graph) ? `${node.graph.id}:${node.id}` : String(node.id);
  return ranOf(outputs?.[own]);
}

/** Calls `then(node id, mark)` when a run stops at a line: `mark(text)` has that line alone. */
export function onStopped(then) {
  api.addEventListener("execution_error", ({ detail }) => {
    const found = LINE.exec(String(detail?.exception_message ?? "").trim());
    if (!found) return;
    const sentence = t("the run stopped here: {}", found[2]);
    then(String(detail.node_id).split(":").at(-1), (text) => {
      const written = splitLines(text)[Number(found[1]) - 1]?.written;
      return new Map(written ? [[written, { state: "failed", sentence }]] : []);
    });
  });
}
