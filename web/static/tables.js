// Tables that are filled again many times a second: rows and cells stay, only what differs is written, so a
// selection, the scroll position and the focus survive.

function cellInto(line, index) {
  return line.cells[index] ?? line.insertCell();
}

// Show `rows` in the body `id`. A row is a list of cells [text, class, title]; class and title may be left out.
export function fillTable(id, rows, nothing) {
  const body = document.getElementById(id);
  const columns = body.parentElement.tHead.rows[0].cells.length;
  const shown = rows.length ? rows : [[[nothing, "empty"]]];
  while (body.rows.length > shown.length) body.deleteRow(-1);
  shown.forEach((cells, at) => {
    const line = body.rows[at] ?? body.insertRow();
    while (line.cells.length > cells.length) line.deleteCell(-1);
    cells.forEach(([text, style = "", title = ""], index) => {
      const cell = cellInto(line, index);
      if (cell.textContent !== text) cell.textContent = text;
      if (cell.className !== style) cell.className = style;
      if (cell.title !== title) cell.title = title;
      const width = rows.length ? 1 : columns;
      if (cell.colSpan !== width) cell.colSpan = width;
    });
  });
}
