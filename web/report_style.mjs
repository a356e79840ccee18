// How a report looks. Set as text of the page, not fetched, so that the first measure of a box is already right.
import { AMBER, GREEN, GREY, RED } from "./tones.mjs";

export const LINE_PX = 16;
export const HEAD_PX = 20;

const CSS = `
.cvl-report, .cvl-report-measure { display: flex; flex-direction: column; box-sizing: border-box; width: 100%; min-width: 0; overflow: hidden;
  border-radius: 4px; background: var(--comfy-input-bg, #222); color: var(--input-text, #ddd);
  font: 11px/${LINE_PX}px monospace; border-left: 3px solid transparent; }
.cvl-report[data-mark="error"] { border-left-color: #e03030; }
.cvl-report[data-mark="note"] { border-left-color: #e08a00; }
.cvl-report[data-mark="good"] { border-left-color: #2f9e5b; }
.cvl-report-head { flex: 0 0 ${HEAD_PX}px; display: flex; align-items: center; gap: 4px; padding: 0 4px 0 2px; min-width: 0; }
.cvl-report button { font: 11px/${HEAD_PX}px sans-serif; height: ${HEAD_PX}px; color: inherit; background: none; border: none; margin: 0;
  padding: 0 4px; cursor: pointer; border-radius: 3px; }
.cvl-report button:hover { background: color-mix(in srgb, currentColor 14%, transparent); }
.cvl-report button:focus-visible { outline: 1px solid #5a9bd5; outline-offset: -1px; }
.cvl-report-fold { flex: 1 1 0; min-width: 0; text-align: left; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.cvl-report-body { flex: 0 1 auto; min-height: 0; overflow: hidden auto; padding: 0 6px 4px; box-sizing: border-box;
  white-space: pre-wrap; overflow-wrap: anywhere; user-select: text; cursor: text; scrollbar-width: thin;
  scrollbar-gutter: stable; }
.cvl-report[data-folded] .cvl-report-body { display: none; }
.cvl-report-line { min-height: ${LINE_PX}px; }
.cvl-report-grid { display: grid; margin: 3px 0 1px; gap: 0 10px; overflow-x: auto; }
.cvl-report-row { display: contents; }
.cvl-report-cell { min-width: 0; overflow-wrap: break-word; border-top: 1px solid color-mix(in srgb, currentColor 14%, transparent); }
.cvl-report-row:first-child > .cvl-report-cell { border-top: none; opacity: 0.65; }
.cvl-report-cell[data-whole] { min-width: min-content; }
.cvl-report-cell:first-child { font-weight: bold; white-space: nowrap; }
.cvl-report [data-mark="error"] { color: ${RED}; }
.cvl-report [data-mark="note"] { color: ${AMBER}; }
.cvl-report [data-mark="good"] { color: ${GREEN}; }
.cvl-report [data-earlier] { color: ${GREY}; }
.cvl-report-measure { position: absolute; left: -10000px; top: 0; visibility: hidden; pointer-events: none;
  contain: layout style; }
`;

let there = false;

/** Puts the style into the page, once. */
export function installStyle() {
  if (there) return;
  there = true;
  document.head.append(Object.assign(document.createElement("style"), { textContent: CSS }));
}
