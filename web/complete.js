// Completion while one writes in a prompt of ours: embeddings, trigger words, the user's own words; LoRAs in their list.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { close, isOpen, open, press } from "./complete_list.mjs";
import { aboutEmbedding, FILE, forget, forList, forPrompt, load } from "./complete_sources.mjs";
import { loadWords } from "./words.mjs";

const PROMPTS = ["CVL_TextEncode", "CVL_TextEncodeSDXL", "CVL_InspectTokens"];
const LIST = "CVL_LoRAStack";
const ON = "clip-vae-lora.Complete", WORDS = "clip-vae-lora.Words";
const PAUSE_MS = 90; // after the last key
const KEYS = ["ArrowDown", "ArrowUp", "Enter", "Tab", "Escape"];

const nodeOf = new WeakMap(); // textarea of the classic canvas -> its node
let waiting = 0, number = 0;

const setting = (id, otherwise) => app.extensionManager?.setting?.get(id) ?? otherwise;
const list = () => String(setting(WORDS, FILE)).trim();

/** What writes the suggestions of a textarea; null for one that is not ours. */
function sourceOf(area) {
  const id = area.closest?.("[data-node-id]")?.dataset.nodeId; // in Vue nodes
  const node = nodeOf.get(area) ?? (id === undefined ? null : nodeNumbered(id));
  if (PROMPTS.includes(node?.comfyClass)) return (text, caret) => forPrompt(text, caret, list());
  return node?.comfyClass === LIST ? forList : null;
}

function nodeNumbered(id) {
  return (app.canvas?.graph ?? app.graph)._nodes.find((node) => String(node.id) === id);
}

/** Whether another pack has its list open: two lists would fight for the keys. */
function anotherIsOpen() {
  return [...document.querySelectorAll("[class*='autocomplete']")].some((found) =>
    !/\bp-autocomplete|^(INPUT|TEXTAREA)$/.test(`${found.className} ${found.tagName}`) && found.tagName !== "TEXTAREA"
    && found.getClientRects().length > 0);
}

function written(event) {
  const area = event.target;
  if (area?.tagName !== "TEXTAREA" || event.isComposing) return;
  const source = sourceOf(area);
  const typed = event.type === "compositionend" || event.inputType === "insertText"
    || (event.inputType === "deleteContentBackward" && isOpen());
  clearTimeout(waiting);
  close();
  number += 1;
  if (source && typed && setting(ON, true)) waiting = setTimeout(() => suggest(area, source), PAUSE_MS);
}

async function suggest(area, source) {
  const mine = ++number, text = area.value, caret = area.selectionEnd;
  if (area.selectionStart !== caret) return;
  const found = await source(text, caret);
  const still = mine === number && document.activeElement === area && area.value === text && area.selectionEnd === caret;
  if (!still || !found.length || anotherIsOpen()) return;
  open(area, found, {
    choose: (row) => insert(area, row, caret),
    about: (row) => (row.embedding ? aboutEmbedding(row.embedding) : null),
  });
}

/** Writes it as if it were typed: one step to undo, and every front end hears of it. */
function insert(area, { from, insert: text, more }, caret) {
  area.focus();
  area.setSelectionRange(from, caret);
  if (!document.execCommand("insertText", false, text)) {
    area.setRangeText(text, from, caret, "end");
    area.dispatchEvent(new InputEvent("input", { bubbles: true }));
  }
  if (more) suggest(area, sourceOf(area)); // it was only the beginning
  else close();
}

function pressed(event) {
  if (!isOpen() || !KEYS.includes(event.key) || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (anotherIsOpen()) return close();
  clearTimeout(waiting);
  if (!press(event.key)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

app.registerExtension({
  name: "clip-vae-lora.complete",
  settings: [
    {
      id: ON,
      name: "Complete embeddings, trigger words and own words in prompts",
      category: ["clip-vae-lora", "Prompts", "Completion"],
      type: "boolean",
      defaultValue: true,
      onChange: close,
    },
    {
      id: WORDS,
      name: "Own word list: a .txt or .csv in the input folder",
      tooltip: "One word or phrase a line, or a table of A1111's tag completion (tag,category,count,aliases). Empty: none.",
      category: ["clip-vae-lora", "Prompts", "Words"],
      type: "text",
      defaultValue: FILE,
      onChange: forget,
    },
  ],
  nodeCreated(node) {
    if (![...PROMPTS, LIST].includes(node.comfyClass)) return;
    for (const { element } of node.widgets ?? []) if (element?.tagName === "TEXTAREA") nodeOf.set(element, node);
  },
  refreshComboInNodes: forget,
  async setup() {
    for (const kind of ["input", "compositionend"]) document.addEventListener(kind, written, true);
    window.addEventListener("keydown", pressed, true);
    document.addEventListener("focusin", (event) => {
      if (event.target.tagName === "TEXTAREA" && setting(ON, true) && sourceOf(event.target)) load(list());
    });
    for (const kind of ["focusout", "pointerdown", "wheel"]) {
      document.addEventListener(kind, (event) => event.target.closest?.(".cvl-complete") || (isOpen() && close()), true);
    }
    api.addEventListener("reconnected", forget);
    await loadWords();
  },
});
