// Shows the selected chart of each choice; without scripts, and in print, all charts are shown.
for (const choice of document.querySelectorAll(".choice")) {
  const select = choice.querySelector("select");
  const charts = choice.querySelectorAll("figure");
  const show = () => charts.forEach((chart, i) => chart.classList.toggle("folded", i !== select.selectedIndex));
  select.addEventListener("change", show);
  show();
}
