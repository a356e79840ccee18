// Lines of a report with tabs in them are the rows of a table: the first one has the names of the columns.

const CELL = "cvl-report-cell";
const LONG_LETTERS = 10; // a column of shorter words is as wide as its longest word; a longer word is broken

function element(name, text = "") {
  const made = document.createElement("div");
  made.className = name;
  made.textContent = text;
  return made;
}

function grid(rows, earlier) {
  const made = element("cvl-report-grid"), columns = Math.max(...rows.map((row) => row.length));
  made.style.gridTemplateColumns = `auto minmax(5em, 1fr)${columns > 2 ? ` repeat(${columns - 2}, fit-content(8em))` : ""}`;
  made.setAttribute("role", "table");
  made.toggleAttribute("data-earlier", earlier);
  rows.forEach((row, at) => {
    const line = element("cvl-report-row");
    line.setAttribute("role", "row");
    for (let column = 0; column < columns; column++) {
      const cell = element(CELL, row[column] ?? "");
      cell.setAttribute("role", at ? "cell" : "columnheader");
      cell.toggleAttribute("data-whole", column !== 1 && cell.textContent.split(/\s+/).every((word) => word.length <= LONG_LETTERS));
      line.append(cell);
    }
    made.append(line);
  });
  return made;
}

/** The elements for lines: those with tabs that follow one another as one table, each other one as `plain` makes it. */
export function tabled(lines, plain) {
  const made = [];
  let rows = [], earlier = false;
  const close = () => {
    if (rows.length) made.push(grid(rows, earlier));
    rows = [];
  };
  for (const line of lines) {
    if (line.text.includes("\t")) {
      rows.push(line.text.split("\t"));
      earlier = Boolean(line.earlier);
      continue;
    }
    close();
    made.push(plain(line));
  }
  close();
  return made;
}
