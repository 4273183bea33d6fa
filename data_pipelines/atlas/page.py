"""Puts the sections of the atlas together and writes its page."""

from __future__ import annotations

import json
import pathlib

from data_pipelines.atlas import day_chart, import_account, missing_charts, split_charts, value_charts
from data_pipelines.atlas.counts import Counts, count_missing
from data_pipelines.dataset import Dataset
from data_pipelines.page import chart, document
from data_pipelines.page.blocks import Block, Choice, Code, Section, Table, TextLine
from data_pipelines.splits import SPLITS
from data_pipelines.text_files import counted

DRAWN_DAYS = 4


def write(dataset: Dataset, output: pathlib.Path, max_days: int = 0) -> pathlib.Path:
  """Writes index.html and the PNG and CSV of each chart to a folder.

  Args:
    dataset: its days are read once, batch by batch.
    output: the folder; charts of an earlier atlas in it are removed.
    max_days: count at most this many days, spread evenly over the splits; 0 counts all.

  Returns:
    The path of index.html.
  """
  counts = count_missing(dataset, max_days)
  with chart.style():
    return document.write(_sections(dataset, counts), dataset.name, "atlas", output)


def _sections(dataset: Dataset, counts: Counts) -> list[Section]:
  return [
    Section("summary", "Summary", _summary(dataset, counts)),
    Section("day", "Single days", [TextLine(_DAYS), _days(dataset)]),
    Section("missing", "Missing values", [draw(counts, name) for name, draw in _MISSING.items()]),
    Section("gaps", "Gaps", [TextLine(_GAPS), *(draw(counts, name) for name, draw in _GAP_CHARTS.items())]),
    Section("values", "Observed values", _values(dataset, counts)),
    Section("balance", "Splits", _splits(dataset, counts)),
    Section("origin", "Origin", _origin(dataset)),
  ]


_MISSING = {
  "missing-channels": missing_charts.by_channel,
  "missing-hours": missing_charts.by_hour,
  "missing-people": missing_charts.by_person,
  "missing-together": missing_charts.together,
  "missing-thresholds": missing_charts.by_threshold,
}
_GAP_CHARTS = {"gap-lengths": missing_charts.by_length, "gap-channels": missing_charts.length_by_channel}
_DAYS = "Select one of a few days. They range from days with few values to a nearly complete one."
_GAPS = "A gap is a run of missing steps within one channel of one day."
_VALUES = (
  "A model sees each value as its distance from the mean of the pretrain split, in standard deviations (SDs), cut off "
  "at the clip of the schema. Many values at one edge point to a sensor at its limit, a bound set by hand, or a "
  "quantity that is often zero."
)


def _summary(dataset: Dataset, counts: Counts) -> list[Block]:
  schema, total = dataset.schema, sum(dataset.num_days(split) for split in SPLITS)
  part = f" This page counts {counts.n_days:,} of the days, spread evenly over the splits."
  size = f"{counted(total, 'day')} of {counted(sum(len(dataset.people(split)) for split in SPLITS), 'person')}"
  clock = f"{counted(schema.steps, 'step')} of {schema.minutes_per_step} min per day"
  sentence = f"{size}; {clock}, {counted(len(schema.channels), 'channel')}.{part if counts.n_days < total else ''}"
  return [TextLine(sentence), missing_charts.summary(counts, dataset.name), _channels(dataset)]


def _channels(dataset: Dataset) -> Table:
  rows = [[c.name, c.unit, c.sensor, c.kind, f"{c.clip:g} SDs"] for c in dataset.schema.channels]
  return Table("Channels", ["channel", "unit", "sensor", "kind", "clip"], rows, folded=len(rows) > 8)


def _values(dataset: Dataset, counts: Counts) -> list[Block]:
  return [TextLine(_VALUES), *value_charts.charts(counts, value_charts.bounds_of(dataset), "values")]


def _days(dataset: Dataset) -> Choice:
  most_complete, *others = day_chart.choose_days(dataset, SPLITS, DRAWN_DAYS)
  draw = lambda number, title, day: day_chart.chart(dataset.schema, title, day, f"day-{number}")
  days = enumerate([*others, most_complete], start=1)  # a nearly complete day shows least, so it comes last
  return Choice("Day", [(title, draw(number, title, day)) for number, (title, day) in days])


def _splits(dataset: Dataset, counts: Counts) -> list[Block]:
  labels = split_charts.labels(dataset, "balance-labels")
  return [
    split_charts.splits(counts, "balance-splits"),
    split_charts.weekdays(counts, "balance-weekdays"),
    labels or TextLine("The people of this dataset have no labels.", "hint"),
  ]


def _origin(dataset: Dataset) -> list[Block]:
  request = Code("Request from which the dataset was built", json.dumps(dataset.request, indent=2))
  return [*import_account.blocks(dataset, "account"), request]
