// Sorting and filtering of the verdict table. The page reads the same without it.
(() => {
  const table = document.getElementById("verdicts");
  const body = table.tBodies[0];
  const said = document.getElementById("shown");
  const verdict = document.getElementById("filter-verdict");
  const words = document.getElementById("filter-words");
  const key = (row, column) => row.cells[column].dataset.key || row.cells[column].textContent.trim();
  const compare = new Intl.Collator("en", { numeric: true }).compare;

  table.querySelectorAll("thead button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const column = head.cellIndex;
      const rows = [...body.rows].sort((a, b) => compare(key(a, column), key(b, column)) * (down ? -1 : 1));
      body.append(...rows);
    });
  });

  const left = ["untested", "out of scope"];
  const chosen = (said) => verdict.value === "" || (verdict.value === "decided" ? !left.includes(said) : said === verdict.value);

  const filter = () => {
    const wanted = words.value.toLowerCase();
    let count = 0;
    for (const row of body.rows) {
      row.hidden = !chosen(row.dataset.verdict) || !row.textContent.toLowerCase().includes(wanted);
      count += row.hidden ? 0 : 1;
    }
    said.textContent = `${count} of ${body.rows.length} claims`;
  };
  verdict.addEventListener("input", filter);
  words.addEventListener("input", filter);
  document.getElementById("filters").hidden = false;
  verdict.value = "decided";
  filter();
})();
