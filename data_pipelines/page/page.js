// Shows the chosen chart of each choice; without scripts, and on paper, all are there.
for (const choice of document.querySelectorAll(".choice")) {
  const select = choice.querySelector("select");
  const charts = choice.querySelectorAll("figure");
  const show = () => charts.forEach((chart, i) => chart.classList.toggle("folded", i !== select.selectedIndex));
  select.addEventListener("change", show);
  show();
}
