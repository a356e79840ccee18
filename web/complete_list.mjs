// The list of suggestions beside the caret. It never has the focus: the text keeps it.
const CSS = `
.cvl-complete { position: fixed; z-index: 99999; max-height: 260px; min-width: 180px; max-width: 440px; overflow: hidden auto;
  padding: 3px; border-radius: 6px; border: 1px solid var(--border-color, #555); background: var(--comfy-menu-bg, #222);
  color: var(--input-text, #ddd); font: 12px/18px sans-serif; box-shadow: 0 4px 16px rgb(0 0 0 / 45%); box-sizing: border-box; }
.cvl-complete-row { display: flex; gap: 14px; justify-content: space-between; padding: 1px 7px; border-radius: 4px;
  cursor: pointer; white-space: nowrap; }
.cvl-complete-row > :first-child { overflow: hidden; text-overflow: ellipsis; }
.cvl-complete-row > :last-child { opacity: 0.75; flex: 0 0 auto; max-width: 200px; overflow: hidden; text-overflow: ellipsis; }
.cvl-complete-row[aria-selected="true"] { background: color-mix(in srgb, currentColor 20%, transparent); }
.cvl-complete-row[data-note] { cursor: default; white-space: normal; }
`;
const COPIED = ["fontFamily", "fontSize", "fontWeight", "lineHeight", "letterSpacing", "paddingTop", "paddingRight",
  "paddingBottom", "paddingLeft", "borderTopWidth", "borderLeftWidth", "boxSizing", "textIndent", "tabSize"];

let box = null, rows = [], at = 0, then = null;

/** Whether the list is open. */
export const isOpen = () => box !== null;

/** Opens the list beside a textarea's caret; `choose` gets the row that was taken, `about(row)` promises more words. */
export function open(area, found, { choose, about }) {
  close();
  if (!document.getElementById("cvl-complete-style")) {
    document.head.append(Object.assign(document.createElement("style"), { id: "cvl-complete-style", textContent: CSS }));
  }
  box = Object.assign(document.createElement("div"), { className: "cvl-complete" });
  box.setAttribute("role", "listbox");
  [rows, then] = [found, { choose, about }];
  box.append(...found.map((row, place) => rowOf(row, place)));
  box.addEventListener("pointerdown", (event) => event.preventDefault()); // the text keeps the focus
  box.addEventListener("wheel", (event) => event.stopPropagation());
  document.body.append(box);
  put(area);
  select(0);
}

/** Closes it. */
export function close() {
  box?.remove();
  [box, rows, then] = [null, [], null];
}

/** What a key does while the list is open; whether it was for the list. */
export function press(key) {
  if (!box) return false;
  if (key === "Escape") return close(), true;
  if (rows[0]?.note) return false;
  if (key === "ArrowDown" || key === "ArrowUp") {
    select((at + (key === "ArrowDown" ? 1 : rows.length - 1)) % rows.length);
    return true;
  }
  if (key !== "Enter" && key !== "Tab") return false;
  take(at);
  return true;
}

function rowOf(row, place) {
  const made = Object.assign(document.createElement("div"), { className: "cvl-complete-row" });
  for (const text of [row.shown, row.about ?? ""]) {
    made.append(Object.assign(document.createElement("span"), { textContent: text }));
  }
  made.setAttribute("role", "option");
  made.toggleAttribute("data-note", Boolean(row.note));
  if (!row.note) made.addEventListener("click", () => take(place));
  return made;
}

function take(place) {
  const row = rows[place], choose = then.choose;
  close();
  choose(row);
}

function select(place) {
  at = place;
  if (rows[0]?.note) return;
  [...box.children].forEach((row, number) => row.setAttribute("aria-selected", String(number === place)));
  box.children[place].scrollIntoView({ block: "nearest" });
  const shown = box.children[place].lastChild;
  then.about?.(rows[place])?.then((words) => words && (shown.textContent = words));
}

/** Below the caret, or above it where there is no room. */
function put(area) {
  const { x, y, height } = caretOf(area);
  const { width: wide, height: high } = box.getBoundingClientRect();
  const below = y + height + 2 + high <= innerHeight;
  box.style.left = `${Math.max(4, Math.min(x, innerWidth - wide - 4))}px`;
  box.style.top = `${below ? y + height + 2 : Math.max(4, y - high - 2)}px`;
}

/** Where the caret of a textarea is on the page: measured in a copy of it, scaled as the canvas is. */
function caretOf(area) {
  const copy = document.createElement("div"), mark = document.createElement("span"), style = getComputedStyle(area);
  for (const name of COPIED) copy.style[name] = style[name];
  Object.assign(copy.style, { position: "absolute", visibility: "hidden", whiteSpace: "pre-wrap", overflowWrap: "break-word",
    width: `${area.offsetWidth}px`, top: "0", left: "-9999px" });
  copy.textContent = area.value.slice(0, area.selectionEnd);
  mark.textContent = "\u200b";
  copy.append(mark);
  document.body.append(copy);
  const rect = area.getBoundingClientRect(), scale = rect.width / area.offsetWidth || 1;
  const place = { x: mark.offsetLeft, y: mark.offsetTop - area.scrollTop, height: mark.offsetHeight };
  copy.remove();
  const y = Math.max(0, Math.min(place.y, area.clientHeight - place.height));
  return { x: rect.left + place.x * scale, y: rect.top + y * scale, height: place.height * scale };
}
