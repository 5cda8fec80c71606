
"use strict";
// Sorts a table by the column whose button is pressed; what is unknown stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const numeric = !head.classList.contains("name");
    // the worst are looked for first: numbers begin with the largest, names with A
    const before = head.getAttribute("aria-sort");
    const down = numeric ? before !== "descending" : before === "ascending";
    const sign = down ? -1 : 1;
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a, column), y = value(b, column);
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    });
    body.append(...rows);
    heads.forEach(other => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    document.getElementById("sorted").textContent =
      "Sorted by " + head.textContent + (down ? ", largest first" : ", smallest first");
  }));
}
