"""The sections of the atlas, in order."""

from __future__ import annotations

import json
import pathlib

from data_pipelines.atlas import day_chart, import_account, missing_charts, split_charts, value_charts
from data_pipelines.atlas.counts import Counts, count_missing
from data_pipelines.dataset import Dataset
from data_pipelines.page import chart, document
from data_pipelines.page.blocks import Block, Choice, Code, Section, Table, TextLine
from data_pipelines.splits import SPLITS

DRAWN_DAYS = 4


def write(dataset: Dataset, output: pathlib.Path, most_days: int = 0) -> pathlib.Path:
  """Writes index.html and each chart's PNG and CSV to folder `output`; returns the page's path.

  Args:
    dataset: any; its days are read once, block by block.
    output: folder; the charts of an earlier atlas there are removed.
    most_days: how many days to count, evenly over the splits; 0: all.
  """
  counts = count_missing(dataset, most_days)
  with chart.style():
    return document.write(_sections(dataset, counts), dataset.name, "atlas", output)


def _sections(dataset: Dataset, counts: Counts) -> list[Section]:
  return [
    Section("summary", "In short", _summary(dataset, counts)),
    Section("day", "A day and its holes", [_days(dataset)]),
    Section("missing", "What is missing", [each(counts, name) for name, each in _MISSING.items()]),
    Section("gaps", "Gaps", [each(counts, name) for name, each in _GAPS.items()]),
    Section(
      "values", "Values", [TextLine(_VALUES), *value_charts.charts(counts, value_charts.bounds_of(dataset), "values")]
    ),
    Section("balance", "Balance", _balance(dataset, counts)),
    Section("origin", "Where it comes from", _origin(dataset)),
  ]


_MISSING = {
  "missing-channels": missing_charts.by_channel,
  "missing-hours": missing_charts.by_hour,
  "missing-people": missing_charts.by_person,
  "missing-together": missing_charts.together,
  "missing-kept": missing_charts.kept,
}
_GAPS = {"gap-lengths": missing_charts.by_length, "gap-channels": missing_charts.length_by_channel}
_VALUES = (
  "A model sees values as distances from the mean of the pretrain split in SDs, cut off at the clip of the schema. "
  "Many values at one edge are a sensor at its stop, a bound somebody set, or a quantity that is often zero."
)


def _summary(dataset: Dataset, counts: Counts) -> list[Block]:
  schema, total = dataset.schema, sum(dataset.num_days(split) for split in SPLITS)
  looked = "" if counts.n_days == total else f" Counted here: {counts.n_days:,} of them, evenly over the splits."
  size = f"{total:,} days of {sum(len(dataset.people(split)) for split in SPLITS):,} people"
  clock = f"{schema.steps} steps of {schema.minutes_per_step} min, {len(schema.channels)} channels"
  return [TextLine(f"{size}, {clock}.{looked}"), missing_charts.summary(counts, dataset.name), _channels(dataset)]


def _channels(dataset: Dataset) -> Table:
  rows = [[c.name, c.unit, c.sensor, c.kind, f"{c.clip:g} SD"] for c in dataset.schema.channels]
  return Table("The schema", ["channel", "unit", "sensor", "kind", "clip"], rows, folded=len(rows) > 8)


def _days(dataset: Dataset) -> Choice:
  fullest, *others = day_chart.choose_days(dataset, SPLITS, DRAWN_DAYS)
  chosen = [*others, fullest]  # a day without holes tells least
  drawn = [
    (title, day_chart.chart(dataset.schema, title, day, f"day-{i + 1}")) for i, (title, day) in enumerate(chosen)
  ]
  return Choice("Day", drawn)


def _balance(dataset: Dataset, counts: Counts) -> list[Block]:
  labels = split_charts.labels(dataset, "balance-labels")
  drawn: list[Block] = [
    split_charts.splits(counts, "balance-splits"),
    split_charts.weekdays(counts, "balance-weekdays"),
  ]
  none = TextLine("There are no labels of people.", "hint")
  return [*drawn, labels or none]


def _origin(dataset: Dataset) -> list[Block]:
  built = Code("What it was built from", json.dumps(dataset.request, indent=2))
  return [*import_account.blocks(dataset, "account"), built]
