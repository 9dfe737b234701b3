// Sorting and filtering of the table of outcomes. Without JavaScript the page shows the whole table in the order of the questions.
(() => {
  const table = document.getElementById("outcome-table");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const outcomeColumn = heads.findIndex((head) => head.textContent === "outcome");
  const rows = [...body.rows].map((row, order) => ({ row, order, outcome: row.cells[outcomeColumn].textContent.split(",")[0].trim() }));
  const compareText = new Intl.Collator("en", { numeric: true }).compare;

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const text = (item) => item.row.cells[column].textContent.trim();
    const compare = column === outcomeColumn ? (a, b) => a.order - b.order : (a, b) => compareText(text(a), text(b));
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
  form.innerHTML = '<label>Outcome <select id="filter-outcome"><option value="">all</option></select></label>'
    + ' <label>Text <input id="filter-text" type="search"></label> <output id="shown"></output>';
  table.closest(".scroll").before(form);
  const [outcome, words, shown] = ["filter-outcome", "filter-text", "shown"].map((id) => document.getElementById(id));
  for (const name of new Set(rows.map((item) => item.outcome))) {
    outcome.add(new Option(`${name} (${rows.filter((item) => item.outcome === name).length})`, name));
  }

  const chosen = (name) => outcome.value === "" || name === outcome.value;
  const filter = () => {
    for (const item of rows) {
      item.row.hidden = !chosen(item.outcome) || !item.row.textContent.toLowerCase().includes(words.value.toLowerCase());
    }
    shown.textContent = `${rows.filter((item) => !item.row.hidden).length} of ${rows.length} claims`;
  };
  outcome.addEventListener("input", filter);
  words.addEventListener("input", filter);
  filter();
})();
