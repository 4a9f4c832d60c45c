"use strict";

// A cell's number is the first one in it; cells without one sort last.
function value(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = text.replace(/,/g, "").match(/[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
  const leads = number !== null && /^[+-]?[\d,.]/.test(text);
  return { text, number: leads ? parseFloat(number[0]) : null };
}

function order(a, b) {
  if (a.number !== null && b.number !== null) return a.number - b.number;
  if (a.number !== null || b.number !== null) return a.number === null ? 1 : -1;
  return a.text.localeCompare(b.text);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (up ? 1 : -1) * order(value(a, column), value(b, column)));
      table.tBodies[0].append(...rows);
    });
  });
}

const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const wanted = filter.value.trim().toLowerCase();
  const rows = [...document.querySelectorAll("table.sortable tbody tr")];
  for (const row of rows) {
    row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  }
  const shown = rows.filter((row) => !row.hidden).length;
  document.getElementById("filtered").textContent = wanted
    ? `${shown} of ${rows.length} rows of all tables`
    : "";
});

for (const part of document.querySelectorAll(".disagreements")) {
  const samples = JSON.parse(part.querySelector("script").textContent);
  const right = part.querySelector(".right");
  const wrong = part.querySelector(".wrong");
  const draw = () => {
    const fitting = samples.filter(
      (sample) =>
        sample.predictions[right.value] === sample.label &&
        sample.predictions[wrong.value] !== sample.label,
    );
    part.querySelector(".count").textContent = `${fitting.length} shown`;
    part.querySelector(".cards").replaceChildren(
      ...fitting.map((sample) => {
        const card = document.createElement("li");
        const image = document.createElement("img");
        image.src = sample.image;
        image.alt = `image labelled ${sample.label}`;
        card.append(image);
        for (const [name, text] of [
          ["label", sample.label],
          ["group", sample.group],
          [right.value, sample.predictions[right.value]],
          [wrong.value, sample.predictions[wrong.value]],
        ]) {
          if (text === null) continue;
          const line = document.createElement("div");
          line.textContent = `${name}: ${text}`;
          card.append(line);
        }
        return card;
      }),
    );
  };
  right.addEventListener("change", draw);
  wrong.addEventListener("change", draw);
  draw();
}
