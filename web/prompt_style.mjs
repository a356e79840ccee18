// How the line under a prompt looks. A style sheet, as only that has :hover and ::before.
import { AMBER } from "./tones.mjs";

export const LINE_PX = 20;

const CSS = `
.cvl-prompt-box { display: flex; flex-direction: column; padding: 0 8px; box-sizing: border-box; width: 100%; min-width: 0; }
.cvl-prompt-box[data-off] { opacity: 0.45; }
.cvl-prompt-count { flex: 0 0 ${LINE_PX}px; display: flex; gap: 0; width: 100%; min-width: 0; margin: 0; padding: 0 4px;
  border: none; border-radius: 4px; background: none; cursor: pointer; text-align: left; white-space: pre;
  font: 11px/${LINE_PX}px sans-serif; color: var(--input-text, #ddd); overflow: hidden; }
.cvl-prompt-count::before { content: "▸"; flex: 0 0 12px; opacity: 0.8; }
.cvl-prompt-count[aria-expanded="true"]::before { content: "▾"; }
.cvl-prompt-count:hover { background: color-mix(in srgb, currentColor 14%, transparent); }
.cvl-prompt-count:focus-visible { outline: 1px solid #5a9bd5; outline-offset: -1px; }
.cvl-prompt-count[data-noted] { color: ${AMBER}; }
.cvl-prompt-count[data-waiting] { opacity: 0.6; }
.cvl-prompt-figures, .cvl-prompt-more { flex: 0 0 auto; }
.cvl-prompt-note { flex: 0 1 auto; min-width: 0; overflow: hidden; text-overflow: ellipsis; }
.cvl-prompt-panel { flex: 1 1 0; overflow-y: auto; padding: 4px 6px; border-radius: 4px; font: 11px/1.4 sans-serif;
  color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222); user-select: text; }
.cvl-prompt-panel .cvl-prompt-said { padding: 1px 0; color: ${AMBER}; }
`;

let there = false;

/** Puts the style into the page, once. */
export function installStyle() {
  if (there) return;
  there = true;
  document.head.append(Object.assign(document.createElement("style"), { textContent: CSS }));
}
