// Sorts tables by the head's button: up, down, then as they were. Without script they stay tables.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const bodies = [...table.tBodies];
  const rows = bodies.flatMap((body) => [...body.rows]).filter((row) => !row.classList.contains("group"));
  const home = new Map(rows.map((row) => [row, row.parentNode]));
  const flat = document.createElement("tbody");
  const heads = [...table.tHead.rows[0].cells];

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const text = (row, column) => row.cells[column].textContent.trim();

  const restore = () => {
    flat.remove();
    for (const row of rows) home.get(row).append(row);
    for (const body of bodies) table.append(body);
  };
  const sort = (column, sign) => {
    const numbers = rows.some((row) => key(row, column) !== null);
    const sorted = [...rows].sort((a, b) => {
      if (!numbers) return sign * text(a, column).localeCompare(text(b, column), "en", { numeric: true });
      const [x, y] = [key(a, column), key(b, column)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (x - y);
    });
    for (const body of bodies) body.remove();
    flat.append(...sorted);
    table.append(flat);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
      const order = next === undefined ? "ascending" : next;
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order === null) return restore();
      head.setAttribute("aria-sort", order);
      sort(column, order === "ascending" ? 1 : -1);
    });
  });
}
// Paper has nothing to unfold.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
