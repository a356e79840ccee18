// The words that a user sees, in the language of the front end: English sentences are their own keys.
import { app } from "../../scripts/app.js";
import { sayAround, translator } from "./sentences.mjs";

/** The front end's language, such as "en" or "zh". */
export function language() {
  return app.extensionManager?.setting?.get("Comfy.Locale") ?? app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en";
}

let table = null; // the sentences of that language, loaded once when it is not English
let menus = null; // the values of menus: value -> what is shown for it
let say = null; // says a sentence of the server with them
let loading = null;

async function load() {
  if (language() !== "zh" && language() !== "zh-TW") return;
  try {
    const zh = await import("./zh.mjs");
    [table, menus] = await Promise.all([zh.words(), zh.menus()]);
    say = translator(table);
  } catch (error) {
    console.warn("clip-vae-lora: the Chinese words did not load, so English ones are shown.", error);
  }
}

/** Loads the words of the front end's language, once; English needs none. The front end loads the page anew when its
 * language is changed. */
export function loadWords() {
  loading ??= load();
  return loading;
}

/** A sentence of web/ in the front end's language, its `{}` filled in their order. */
export function t(sentence, ...values) {
  let next = 0;
  return (table?.[sentence] ?? sentence).replace(/\{(\d*)\}/g, (_, place) => String(values[place || next++] ?? ""));
}

/** A line that came from the server in English (of a report, a note, an error) in the front end's language, as far as
 * its words are known. Several lines are said one by one. What is its file's or its user's `own` stays as it is. */
export function translated(text, own = []) {
  if (!say || typeof text !== "string") return text;
  return own.length ? sayAround(say, text, own) : say(text);
}

/** What is shown for the value of a menu; the value itself where it is a name. */
export function menuLabel(value) {
  return menus?.[value] ?? value;
}

/** Whether the words are not English. */
export const isTranslated = () => table !== null;
