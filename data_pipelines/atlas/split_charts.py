"""Charts of the splits: people, days, weekdays and labels."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float64
from matplotlib.figure import Figure

from data_pipelines.atlas.counts import Counts
from data_pipelines.dataset import Dataset
from data_pipelines.page.blocks import number
from data_pipelines.page.chart import COLOURS, MARKERS, SERIES, Chart, named_rows, panels
from data_pipelines.splits import SPLITS
from data_pipelines.text_files import counted

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "unknown")
MOST_VALUES = 6  # values of a text label that are listed, the most frequent first
MOST_LABELS = 30  # drawn in the chart


def splits(counts: Counts, name: str) -> Chart:
  """Draws the people and the days of each split, as far as they were counted."""
  people = {split: [person for person in counts.people.values() if person.split == split] for split in SPLITS}
  people_counts = [len(people[split]) for split in SPLITS]
  day_counts = [counts.days[split] for split in SPLITS]
  figure, [panel] = panels(1.9)
  rows_of_bars = np.arange(len(SPLITS))
  for shift, sizes, label, colour in ((-0.19, people_counts, "people", "s4"), (0.19, day_counts, "days", "s1")):
    shares = 100 * np.array(sizes) / sum(sizes)
    bars = panel.barh(rows_of_bars + shift, shares, 0.36, color=COLOURS[colour], label=label)
    panel.bar_label(bars, [f"{size:,}" for size in sizes], padding=3, fontsize=8.5, color=COLOURS["ink"])
  named_rows(panel, SPLITS)
  panel.set_xlim(0, 115)
  panel.set_xlabel("% of all people or days")
  figure.legend(loc="outside upper center", ncols=2)
  values_per_day = counts.schema.steps * len(counts.schema.channels)
  rows = []
  for split, members in people.items():
    missing, days = sum(int(person.missing.sum()) for person in members), counts.days[split]
    rows.append([split, len(members), days, _ratio(days, len(members), 1), _ratio(missing, days * values_per_day, 100)])
  descriptions = [
    f"{split} has {counted(len(members), 'person')} and {counted(int(counts.days[split]), 'day')}"
    for split, members in people.items()
  ]
  columns = ["split", "people", "days", "days per person", "missing %"]
  return Chart(name, "People and days of each split", f"{'; '.join(descriptions)}.", figure, columns, rows)


def _ratio(part: float, whole: float, scale: float) -> str:
  return f"{scale * part / whole:.2f}" if whole else ""


def weekdays(counts: Counts, name: str) -> Chart:
  """Draws the number of days and the missing share by weekday."""
  days = np.sum([counts.weekdays[split] for split in SPLITS], axis=0)
  present = [d for d in range(8) if d < 7 or days[d]]  # "unknown" only if there are days without a date
  missing = 100 * counts.weekday_missing / np.maximum(days, 1)
  figure, [above, below] = panels(3.4, 2)
  above.bar(range(len(present)), days[present], 0.7, color=COLOURS["s4"])
  above.set_ylabel("days")
  above.locator_params(axis="y", integer=True, nbins=4)
  below.bar(range(len(present)), missing[present], 0.7, color=COLOURS["s1"])
  below.set_ylabel("% missing")
  for panel in (above, below):
    panel.set_xticks(range(len(present)), [WEEKDAYS[d][:3] for d in present])
  rows = [
    [WEEKDAYS[d], int(days[d]), f"{missing[d]:.2f}" if days[d] else ""] + [int(counts.weekdays[s][d]) for s in SPLITS]
    for d in present
  ]
  alt = "Number of days by weekday, and below it the missing share of their values."
  columns = ["weekday", "days", "missing %", *(f"{split} days" for split in SPLITS)]
  return Chart(name, "Weekdays", alt, figure, columns, rows)


def labels(dataset: Dataset, name: str) -> Chart | None:
  """Draws how far the mean of each label in each split is from its mean over all people.

  Distances are in SDs of the label over all people. Returns None if there are no labels.
  """
  table = dataset.participants()
  split_of = np.array(table["split"].to_pylist())
  series = measures(table)
  if not series:
    return None
  rows, distances = [], []
  for label, values in series.items():
    known = ~np.isnan(values)
    spread = values[known].std() or math.nan
    means = [_mean(values[known & (split_of == split)]) for split in SPLITS]
    distances.append([(mean - values[known].mean()) / spread for mean in means])
    people = [int((known & (split_of == split)).sum()) for split in SPLITS]
    rows.append([label, *people, number(_mean(values[known])), *map(number, means), *map(number, distances[-1])])
  figure = _distances(list(series), np.array(distances))
  alt = "Difference between the mean of a label in each split and its mean over all people, in SDs over all people."
  by_split = lambda quantity: [f"{split} {quantity}" for split in SPLITS]
  columns = ["label", *by_split("people"), "mean", *by_split("mean"), *by_split("distance, SDs")]
  return Chart(name, "Labels of each split compared with all people", alt, figure, columns, rows)


def measures(table: pa.Table) -> Mapping[str, Float64[np.ndarray, " people"]]:
  """The labels of a dataset's participants table as numbers, NaN where unknown.

  A numerical label keeps its values. A text label gives one array of 0 and 1 per frequent value.
  """
  series: dict[str, Float64[np.ndarray, " people"]] = {}
  for label in table.column_names:
    if label in ("participant", "split", "days"):
      continue
    values = table[label].to_pylist()
    known = [value for value in values if value is not None]
    if known and not isinstance(known[0], str):
      series[label] = np.array([math.nan if value is None else float(value) for value in values])
      continue
    frequent = [value for value, _ in collections.Counter(sorted(known)).most_common(MOST_VALUES)]
    for listed in frequent if len(frequent) != 2 else frequent[:1]:  # one of two values determines the other
      equal = [math.nan if value is None else float(value == listed) for value in values]
      series[f"{label} = {listed}"] = np.array(equal)
  return series


def _mean(values: Float64[np.ndarray, " people"]) -> float:
  return float(values.mean()) if values.size else math.nan


def _distances(names: Sequence[str], distances: Float64[np.ndarray, "labels splits"]) -> Figure:
  drawn = np.argsort(-np.nan_to_num(np.abs(distances)).max(axis=1), kind="stable")[:MOST_LABELS]
  figure, [panel] = panels(1.2 + 0.22 * len(drawn))
  for i, split in enumerate(SPLITS):
    panel.plot(distances[drawn, i], range(len(drawn)), MARKERS[i], color=SERIES[i], ms=4.5, label=split)
  panel.axvline(0, color=COLOURS["line"], lw=1)
  named_rows(panel, [names[i] for i in drawn])
  panel.set_xlabel("SDs from the mean of all people")
  figure.legend(loc="outside upper center", ncols=3)
  return figure
