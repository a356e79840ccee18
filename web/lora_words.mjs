// What a LoRA's file and the notes beside it say: picture, title, base model and trigger words, of which one can choose
// those that the node gives out. All of it is anybody's: it is only set as text.
import { api } from "../../scripts/api.js";
import { copied } from "./clipboard.mjs";
import { splitWords } from "./lora_lines.mjs";
import { classed, openPopup } from "./lora_popups.mjs";
import { t, translated } from "./words.mjs";

const COPIED_MS = 1200;

/** The preview of a file, or nothing; the browser keeps it as long as the mark is the same. */
function pictureOf({ name, preview }) {
  if (!preview) return [];
  const picture = classed("img", "cvl-preview");
  const asked = new URLSearchParams({ name, mark: preview });
  Object.assign(picture, { src: api.apiURL(`/clip_vae_lora/lora_preview?${asked}`), alt: t("preview of {}", name) });
  picture.addEventListener("error", () => picture.remove());
  return [picture];
}

/** What a file was made for: by the names of its modules, and in its author's own words. */
function baseOf(answer) {
  return [...new Set([answer.family, answer.base_model].filter(Boolean))].join(" · ");
}

/** The picture, title, base model and words of a file, to look at. */
export function cardOf(answer, name) {
  const error = answer ? translated(answer.error) : t("the server did not answer");
  if (error) return [classed("div", "cvl-title", name), classed("div", "cvl-note", `⚠ ${error}`)];
  const parts = [...pictureOf(answer), classed("div", "cvl-title", answer.title || name.split(/[\\/]/).pop())];
  if (!answer.preview) parts.unshift(classed("div", "cvl-preview cvl-none", t("no preview")));
  if (baseOf(answer)) parts.push(classed("div", "cvl-base", baseOf(answer)));
  const words = answer.trigger_words?.length ? answer.trigger_words : answer.tags ?? [];
  if (words.length) parts.push(classed("div", "cvl-pale", words.slice(0, 12).join(", ")));
  return parts;
}

/**
 * Opens what a file says of itself. `facts` is a promise of the route's answer; `chosen` are the words chosen for the
 * row, or null for the file's own; `choose(words or null)` takes others and says whether the list can hold them.
 */
export function openWords(anchor, { facts, name, chosen, choose, problem, then }) {
  const content = classed("div", "cvl-words");
  content.append(classed("div", "cvl-note", "…"));
  const popup = openPopup(anchor, content, { width_px: 320, label: t("what {} says of itself", name), then });
  content.tabIndex = -1;
  content.focus({ preventScroll: true });
  facts.then((answer) => {
    if (!content.isConnected) return;
    const red = problem ? [classed("div", "cvl-said", `⚠ ${translated(problem)}`)] : [];
    const error = answer ? translated(answer.error) : t("the server did not answer");
    const parts = error ? [classed("div", "cvl-note", `⚠ ${error}`)] : wordsParts(answer, name, { chosen, choose });
    content.replaceChildren(...red, ...parts);
    popup.place();
  });
}

function wordsParts(answer, name, { chosen, choose }) {
  const parts = [...pictureOf(answer), classed("div", "cvl-title", answer.title || name)];
  parts.push(classed("div", "cvl-pale", name));
  if (baseOf(answer)) parts.push(classed("div", "", t("made for {}", baseOf(answer))));
  if (answer.text) parts.push(classed("div", "cvl-text-beside", answer.text));
  const own = answer.trigger_words ?? [], all = [...new Set([...own, ...(answer.tags ?? []), ...(chosen ?? [])])];
  const chips = classed("div", "cvl-chips"), note = classed("div", "cvl-note");
  const reset = classed("button", "cvl-reset", t("the file's own"));
  const copy = classed("button", "cvl-copy", t("copy"));
  const field = classed("input", "cvl-own-words");
  Object.assign(field, { type: "text", placeholder: t("other words, with commas between"), autocomplete: "off" });
  const now = () => chosen ?? own;
  const show = () => {
    note.textContent = !all.length ? t("no trigger words are named")
      : t("trigger words: a click chooses those that the node gives out");
    const focused = [...chips.children].indexOf(document.activeElement);
    chips.replaceChildren(...all.map((word) => {
      const chip = classed("button", "cvl-chip", word);
      chip.setAttribute("aria-pressed", String(now().includes(word)));
      chip.title = own.includes(word) ? t("named by the file or a note beside it") : t("a tag of its training, or yours");
      chip.addEventListener("click", () => take(all.filter((other) => now().includes(other) !== (other === word))));
      return chip;
    }));
    chips.children[focused]?.focus({ preventScroll: true }); // a chip that is made anew keeps it
    reset.style.display = chosen ? "" : "none";
  };
  const take = (words) => {
    const wanted = words && JSON.stringify(words) === JSON.stringify(own) ? null : words;
    const taken = choose(wanted);
    field.classList.toggle("cvl-bad", !taken);
    if (taken) chosen = wanted;
    show();
    return taken;
  };
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    const more = splitWords(field.value).filter((word) => !all.includes(word));
    if (!take([...now(), ...splitWords(field.value).filter((word) => !now().includes(word))])) return;
    all.push(...more);
    field.value = "";
    show();
  });
  reset.addEventListener("click", () => take(null));
  copy.addEventListener("click", async () => {
    copy.dataset.said = (await copied(now().join(", "))) ? t("copied") : t("not copied: the browser forbids it");
    setTimeout(() => delete copy.dataset.said, COPIED_MS);
  });
  show();
  const buttons = classed("div", "cvl-buttons");
  buttons.append(copy, reset);
  return [...parts, note, chips, field, buttons];
}
