// Where completions come from: embeddings, the user's word list, trigger words of the LoRAs in the graph, LoRA names.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { beginning, containing, keyOf, prepare, writtenAt, written } from "./complete_search.mjs";
import { lineOf, readList } from "./lora_lines.mjs";
import { t } from "./words.mjs";

export const FILE = "clip_vae_lora_words.txt"; // the usual name of the user's word list
const MOST = 12; // suggestions
let known = null; // a promise of {embeddings, entries, lists, problem}
let loras = null; // a promise of the names of LoRAs
const triggers = new Map(); // LoRA -> a promise of its trigger words

async function ask(route, question) {
  try {
    const headers = { "Content-Type": "application/json" };
    const response = await api.fetchApi(`/clip_vae_lora/${route}`, { method: "POST", headers, body: JSON.stringify(question) });
    return response.ok ? await response.json() : {};
  } catch {
    return {}; // no server
  }
}

/** Forgets what the server said: files may have come or gone. */
export function forget() {
  [known, loras] = [null, null];
  triggers.clear();
}

/** The names and words of the server, asked once; `list` is the name of the user's word list. One that he chose and that
 * cannot be read is told; that there is none by the usual name is nothing to tell. */
export function load(list) {
  known ??= ask("words", { list }).then(({ embeddings = [], words = [], problem }) => {
    if (problem && list !== FILE) {
      app.extensionManager?.toast?.add({ severity: "warn", summary: t("Word list"), detail: problem, life: 8000 });
    }
    return { embeddings, entries: prepare(words) };
  });
  return known;
}

/** Suggestions for what is written before the caret of a prompt: [{shown, about, from, insert, note}]; `note` is a row
 * that only says something. */
export async function forPrompt(text, caret, list) {
  const found = writtenAt(text, caret);
  if (!found) return [];
  if (found.kind === "network") {
    return [{ note: true, shown: t("<lora:…> loads nothing here: use Load LoRA or LoRA Stack (CVL)") }];
  }
  const { embeddings, entries } = await load(list);
  if (found.kind === "embedding") {
    return containing(embeddings, found.typed, MOST).filter((name) => name !== found.typed)
      .map((name) => ({ shown: name, about: t("embedding"), from: found.from, insert: name, embedding: name }));
  }
  const learned = await triggerWords();
  for (const { from, typed } of found.starts) {
    const made = [
      ...learned.filter(({ word }) => keyOf(word).startsWith(keyOf(typed)))
        .map(({ word, of }) => ({ shown: word, about: t("trigger word of {}", of), from, insert: word })),
      ...containing("embedding:".startsWith(typed) && typed.length > 2 ? ["embedding:"] : [], typed, 1)
        .map((word) => ({ shown: word, about: t("a textual inversion"), from, insert: word, more: true })),
      ...beginning(entries, typed, MOST)
        .map(({ word, count, as }) => ({ shown: as ? `${as} → ${word}` : word, about: short(count), from, insert: written(word) })),
    ].slice(0, MOST);
    const only = made.length === 1 && made[0].insert === typed;
    if (made.length) return only ? [] : made;
  }
  return [];
}

/** Suggestions for a line of LoRA Stack's text: names of LoRAs. */
export async function forList(text, caret) {
  const from = text.lastIndexOf("\n", caret - 1) + 1;
  const typed = text.slice(from, caret);
  if (!typed.trim() || /^\s*#|[:#]/.test(typed) || /\S/.test(text.slice(caret).split("\n")[0])) return [];
  loras ??= ask("loras", { menu: true }).then((answer) => answer.menu ?? []);
  return containing(await loras, typed.trim(), MOST).filter((name) => lineOf(name) !== null)
    .map((name) => ({ shown: name, about: t("LoRA"), from, insert: lineOf(name) }));
}

/** "vectors: 4", or why the embedding would not be used. */
export async function aboutEmbedding(name) {
  const { chunks, notes } = await ask("tokens", { text: `embedding:${name}`, pieces: true });
  const vectors = chunks?.[0]?.pieces?.find((piece) => piece.id === null)?.vectors;
  return vectors ? t("vectors: {}", vectors) : (notes?.[0] ?? "");
}

/** The trigger words of the LoRAs that stand in the graph: [{word, of}]. */
async function triggerWords() {
  const names = new Set((app.canvas?.graph ?? app.graph)._nodes.flatMap(lorasOf));
  const asked = [...names].slice(0, 40).map((name) => {
    if (!triggers.has(name)) triggers.set(name, ask("lora_header", { name }).then((answer) => answer.trigger_words ?? []));
    return triggers.get(name).then((words) => words.map((word) => ({ word, of: name })));
  });
  return (await Promise.all(asked)).flat();
}

function lorasOf(node) {
  const value = (name) => node.widgets?.find((widget) => widget.name === name)?.value;
  if (node.comfyClass === "CVL_LoadLoRA") return [value("file")].filter(Boolean);
  if (node.comfyClass === "CVL_LoRAStack") {
    return readList(String(value("loras") ?? "")).filter((line) => line.kind === "lora" && line.on).map((line) => line.name);
  }
  return [value("lora_name")].filter((name) => typeof name === "string" && name);
}

function short(count) {
  return count >= 1e6 ? `${(count / 1e6).toFixed(1)}M` : count >= 1e3 ? `${Math.round(count / 1e3)}k` : count ? String(count) : "";
}
