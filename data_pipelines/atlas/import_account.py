"""What became of the rows of an import, where the dataset keeps its account (data_pipelines.closing)."""

from __future__ import annotations

import collections
import csv

from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.page.blocks import Block, TextLine, percent
from data_pipelines.page.chart import COLOURS, Chart, named_rows, panels

COLUMNS = ["participant", "rows", "outcome", "first"]


def blocks(dataset: Dataset, name: str) -> list[Block]:
  """A chart of all people's rows by outcome; a line where there is no account."""
  path = dataset.path / "account.csv"
  if not path.is_file():
    return [TextLine("No account of an import: the days did not come from a device's export.", "hint")]
  rows: collections.Counter[str] = collections.Counter()
  people: collections.Counter[str] = collections.Counter()
  first: dict[str, str] = {}
  with path.open(newline="", encoding="utf-8") as file:
    for number, row in enumerate(csv.reader(file), start=1):
      if (number == 1 and row != COLUMNS) or (number > 1 and not (len(row) == len(COLUMNS) and row[1].isdecimal())):
        raise SchemaError(f"{path} row {number}: found {','.join(row)[:60]!r}, expected {','.join(COLUMNS)}")
      if number > 1:
        rows[row[2]] += int(row[1])
        people[row[2]] += 1
        first[row[2]] = first.get(row[2]) or row[3]
  said = TextLine(
    f"{rows['read']:,} rows of {people['read']:,} people were read; account.csv of the dataset has each person's."
  )
  return [said, _chart(rows, people, first, name)]


def _chart(rows: collections.Counter[str], people: collections.Counter[str], first: dict[str, str], name: str) -> Chart:
  outcomes = ["kept", *(why for why, _ in rows.most_common() if why not in ("read", "kept"))]
  shares = {why: rows[why] / max(rows["read"], 1) for why in outcomes}
  figure, [panel] = panels(0.8 + 0.25 * len(outcomes))
  bars = panel.barh(range(len(outcomes)), [100 * shares[why] for why in outcomes], 0.7, color=COLOURS["s4"])
  panel.bar_label(bars, [f"{rows[why]:,}" for why in outcomes], padding=3, fontsize=8.5, color=COLOURS["ink"])
  named_rows(panel, outcomes)
  panel.set_xlim(0, 130)
  panel.set_xlabel("% of the rows that were read")
  numbers = [[why, rows[why], f"{100 * shares[why]:.3f}", people[why], first.get(why, "")] for why in outcomes]
  alt = f"Bars: {percent(shares['kept'])} of the rows were kept, the others dropped for the reasons named."
  return Chart(
    name, "Rows of the import", alt, figure, ["outcome", "rows", "% of the rows", "people", "first"], numbers
  )
