// The titles of tables become buttons that sort: numbers as numbers, what is empty last.
const valueOf = (row, column) => {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
};
for (const table of document.querySelectorAll("table")) {
  const titles = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  titles.forEach((title, column) => {
    const button = document.createElement("button");
    button.append(...title.childNodes);
    title.append(button);
    button.onclick = () => {
      const sign = title.ariaSort === "ascending" ? -1 : 1;
      for (const other of titles) other.ariaSort = null;
      title.ariaSort = sign > 0 ? "ascending" : "descending";
      const order = (one, other) => {
        const a = valueOf(one, column), b = valueOf(other, column);
        if (a === null || b === null) return (a === null) - (b === null);
        if (typeof a === typeof b && typeof a === "number") return sign * (a - b);
        return sign * String(a).localeCompare(String(b));
      };
      body.append(...[...body.rows].sort(order));
    };
  });
}
// Boxes that are too small for what is in them say so.
const mark = () => {
  for (const box of document.querySelectorAll(".scroll"))
    box.classList.toggle("more", box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1);
};
addEventListener("resize", mark);
mark();
