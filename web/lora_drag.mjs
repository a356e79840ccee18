// Dragging a row of the LoRA editor by its handle; a line shows where it would fall.

/** Follows the pointer from `event` on; when it is let go, `drop` gets the place that the row `from` shall have. */
export function dragRow(event, rows, from, drop) {
  const handle = event.currentTarget;
  let to = from;
  const clear = () => rows.forEach((row) => row.classList.remove("cvl-before", "cvl-after"));
  const onMove = ({ clientY }) => {
    const above = rows.filter((row) => {
      const { top, bottom } = row.getBoundingClientRect();
      return clientY > (top + bottom) / 2;
    }).length; // rows whose middle is above the pointer
    to = above > from ? above - 1 : above;
    clear();
    if (to !== from) rows[to].classList.add(to > from ? "cvl-after" : "cvl-before");
  };
  const end = ({ type, key }) => {
    if (type === "keydown" && key !== "Escape") return;
    handle.removeEventListener("pointermove", onMove);
    for (const kind of ["pointerup", "pointercancel"]) handle.removeEventListener(kind, end);
    document.removeEventListener("keydown", end, true);
    clear();
    rows[from].classList.remove("cvl-dragged");
    if (type === "pointerup" && to !== from) drop(to);
  };
  handle.setPointerCapture(event.pointerId);
  rows[from].classList.add("cvl-dragged");
  handle.addEventListener("pointermove", onMove);
  for (const kind of ["pointerup", "pointercancel"]) handle.addEventListener(kind, end);
  document.addEventListener("keydown", end, true);
}
