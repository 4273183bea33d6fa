"""The outcomes of an import's rows, as sentences and a chart, if the dataset was imported.

An import stores an account of its rows in the dataset's account.csv, one line per person and outcome.
"""

from __future__ import annotations

import collections
import csv
import re

from data_pipelines.dataset import Dataset
from data_pipelines.digests import Digests
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.account_summary import CLOCK, NOT_READ, NOTE
from data_pipelines.page.blocks import Block, TextLine, percent
from data_pipelines.page.chart import COLOURS, Chart, named_rows, panels
from data_pipelines.text_files import counted

_MOST_UNREAD = 12  # kinds
COLUMNS = ["participant", "rows", "outcome", "first"]


def blocks(dataset: Dataset, name: str) -> list[Block]:
  """Sentences and a chart of all people's rows by outcome, or a sentence that says there is no account.

  Raises:
    SchemaError: account.csv is malformed or damaged.
  """
  path = dataset.path / "account.csv"
  if not path.is_file():
    return [TextLine("There is no account of an import: these days do not come from exports of devices.", "hint")]
  Digests.load(dataset.path).check(path.name)
  beside: collections.Counter[str] = collections.Counter()  # what is none of the rows
  rows: collections.Counter[str] = collections.Counter()
  people: dict[str, set[str]] = collections.defaultdict(set)  # by outcome; rows of nobody have no name
  first: dict[str, str] = {}
  with path.open(newline="", encoding="utf-8") as file:
    for number, row in enumerate(csv.reader(file), start=1):
      valid = row == COLUMNS if number == 1 else len(row) == len(COLUMNS) and re.fullmatch("[0-9]{1,18}", row[1])
      if not valid:
        raise SchemaError(f"{path} row {number}: found {','.join(row)[:60]!r}, expected {','.join(COLUMNS)}")
      if number > 1 and row[2].startswith(NOT_READ):
        beside[row[2].removeprefix(NOT_READ)] += int(row[1])
      elif number > 1 and not row[2].startswith((CLOCK, NOTE)):
        rows[row[2]] += int(row[1])
        people[row[2]] |= {row[0]} - {""}
        first[row[2]] = first.get(row[2]) or row[3]
  summary = TextLine(
    f"Read: {counted(rows['read'], 'row')} of {counted(len(people['read']), 'person')}. "
    "The dataset's account.csv lists them per person."
  )
  unread = "; ".join(f"{what}: {count:,}" for what, count in beside.most_common(_MOST_UNREAD))
  more = f"; {len(beside) - _MOST_UNREAD} other kinds" * (len(beside) > _MOST_UNREAD)
  told = [TextLine(f"Not read: {unread}{more}.")] * bool(beside)
  return [summary, *told, _chart(rows, people, first, name)]


def _chart(rows: collections.Counter[str], people: dict[str, set[str]], first: dict[str, str], name: str) -> Chart:
  outcomes = ["kept", *(why for why, _ in rows.most_common() if why not in ("read", "kept"))]
  shares = {why: rows[why] / max(rows["read"], 1) for why in outcomes}
  figure, [panel] = panels(0.8 + 0.25 * len(outcomes))
  bars = panel.barh(range(len(outcomes)), [100 * shares[why] for why in outcomes], 0.7, color=COLOURS["s4"])
  panel.bar_label(bars, [f"{rows[why]:,}" for why in outcomes], padding=3, fontsize=8.5, color=COLOURS["ink"])
  named_rows(panel, outcomes)
  panel.set_xlim(0, 130)
  panel.set_xlabel("% of the rows read")
  numbers = [[why, rows[why], f"{100 * shares[why]:.3f}", len(people[why]), first.get(why, "")] for why in outcomes]
  alt = f"{percent(shares['kept'])} of the rows read were kept; the others were dropped for the reasons named."
  columns = ["outcome", "rows", "% of the rows", "people", "first example"]
  return Chart(name, "What became of the imported rows", alt, figure, columns, numbers)
