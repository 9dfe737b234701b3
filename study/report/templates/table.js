// Sorting and filtering of the verdict table. Without JavaScript the page shows the whole table in the order of verdicts.
(() => {
  const table = document.getElementById("verdict-table");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const verdictColumn = heads.findIndex((head) => head.textContent === "verdict");
  const rows = [...body.rows].map((row, order) => ({ row, order, verdict: row.cells[verdictColumn].textContent.split(",")[0].trim() }));
  const compareText = new Intl.Collator("en", { numeric: true }).compare;

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const text = (item) => item.row.cells[column].textContent.trim();
    const compare = column === verdictColumn ? (a, b) => a.order - b.order : (a, b) => compareText(text(a), text(b));
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((cell) => cell.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      body.append(...[...rows].sort((a, b) => direction * compare(a, b)).map((item) => item.row));
    });
  });

  const form = document.createElement("form");
  form.id = "filters";
  form.addEventListener("submit", (event) => event.preventDefault());
  form.innerHTML = '<label>Verdict <select id="filter-verdict"><option value="">all</option><option value="tested">all tested</option></select></label>'
    + ' <label>Text <input id="filter-text" type="search"></label> <output id="shown"></output>';
  table.closest(".scroll").before(form);
  const [verdict, words, shown] = ["filter-verdict", "filter-text", "shown"].map((id) => document.getElementById(id));
  for (const name of new Set(rows.map((item) => item.verdict))) {
    verdict.add(new Option(`${name} (${rows.filter((item) => item.verdict === name).length})`, name));
  }

  const notTested = ["untested", "out of scope"];
  const chosen = (name) => verdict.value === "" || (verdict.value === "tested" ? !notTested.includes(name) : name === verdict.value);
  const filter = () => {
    for (const item of rows) {
      item.row.hidden = !chosen(item.verdict) || !item.row.textContent.toLowerCase().includes(words.value.toLowerCase());
    }
    shown.textContent = `${rows.filter((item) => !item.row.hidden).length} of ${rows.length} claims`;
  };
  verdict.addEventListener("input", filter);
  words.addEventListener("input", filter);
  verdict.value = "tested";
  filter();
})();
