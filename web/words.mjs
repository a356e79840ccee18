// The words that a user sees, in the language of the front end: English sentences are their own keys.
import { app } from "../../scripts/app.js";

/** The front end's language, such as "en" or "zh". */
export function language() {
  return app.extensionManager?.setting?.get("Comfy.Locale") ?? app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en";
}

let table = null; // the sentences of that language, loaded once when it is not English

/** Loads the words of the front end's language; English needs none. */
export async function loadWords() {
  if (language() === "zh" || language() === "zh-TW") table = (await import("./zh.mjs")).default;
}

/** A sentence in the front end's language, its `{}` filled in their order. */
export function t(sentence, ...values) {
  let next = 0;
  return (table?.[sentence] ?? sentence).replace(/\{\}/g, () => String(values[next++] ?? ""));
}
