// A text for the clipboard.
import { element } from "./prompt_panel.mjs";

/** Copies a text and says whether that went. Browsers give the clipboard to https and localhost; elsewhere the old way works. */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { position: "fixed", opacity: "0" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
