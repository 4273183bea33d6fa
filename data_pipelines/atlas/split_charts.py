"""Charts of who is in which split: people, days, labels and weekdays."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from data_pipelines.atlas.counts import Counts
from data_pipelines.dataset import Dataset
from data_pipelines.page.blocks import number
from data_pipelines.page.chart import COLOURS, MARKERS, SERIES, Chart, named_rows, panels
from data_pipelines.splits import SPLITS

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "unknown")
MOST_VALUES = 6  # of a label of words, the most frequent first
MOST_LABELS = 30  # that the chart draws


def splits(counts: Counts, name: str) -> Chart:
  """People and days of each split, of what was looked at."""
  people = {split: [each for each in counts.people.values() if each.split == split] for split in SPLITS}
  of_people = [len(people[split]) for split in SPLITS]
  of_days = [counts.days[split] for split in SPLITS]
  figure, [panel] = panels(1.9)
  place = np.arange(len(SPLITS))
  for shift, counted, label, colour in ((-0.19, of_people, "people", "s4"), (0.19, of_days, "days", "s1")):
    bars = panel.barh(place + shift, 100 * np.array(counted) / sum(counted), 0.36, color=COLOURS[colour], label=label)
    panel.bar_label(bars, [f"{each:,}" for each in counted], padding=3, fontsize=8.5, color=COLOURS["ink"])
  named_rows(panel, SPLITS)
  panel.set_xlim(0, 115)
  panel.set_xlabel("%")
  figure.legend(loc="outside upper center", ncols=2)
  cells = counts.schema.steps * len(counts.schema.channels)
  rows = []
  for split, found in people.items():
    missing, days = sum(int(each.missing.sum()) for each in found), counts.days[split]
    rows.append([split, len(found), days, _ratio(days, len(found), 1), _ratio(missing, days * cells, 100)])
  told = [f"{split} {len(found):,} people, {counts.days[split]:,} days" for split, found in people.items()]
  columns = ["split", "people", "days", "days a person", "missing %"]
  return Chart(name, "People and days of each split", f"Bars: {', '.join(told)}.", figure, columns, rows)


def _ratio(part: float, whole: float, scale: float) -> str:
  return f"{scale * part / whole:.2f}" if whole else ""


def weekdays(counts: Counts, name: str) -> Chart:
  """Days of each weekday, and how much of them is missing."""
  days = np.sum([counts.weekdays[split] for split in SPLITS], axis=0)
  there = [d for d in range(8) if d < 7 or days[d]]
  missing = 100 * counts.weekday_missing / np.maximum(days, 1)
  figure, [above, below] = panels(3.4, 2)
  above.bar(range(len(there)), days[there], 0.7, color=COLOURS["s4"])
  above.set_ylabel("days")
  above.locator_params(axis="y", integer=True, nbins=4)
  below.bar(range(len(there)), missing[there], 0.7, color=COLOURS["s1"])
  below.set_ylabel("% missing")
  for panel in (above, below):
    panel.set_xticks(range(len(there)), [WEEKDAYS[d][:3] for d in there])
  rows = [
    [WEEKDAYS[d], int(days[d]), f"{missing[d]:.2f}" if days[d] else ""] + [int(counts.weekdays[s][d]) for s in SPLITS]
    for d in there
  ]
  alt = "Bars: days of each weekday, and the missing share of their values below."
  columns = ["weekday", "days", "missing %", *(f"{split} days" for split in SPLITS)]
  return Chart(name, "Weekdays", alt, figure, columns, rows)


def labels(dataset: Dataset, name: str) -> Chart | None:
  """How far each split's people are from all people, label by label; None where people have no labels."""
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
  alt = "Dots: for each label, how far the mean of each split's people lies from that of all people, in SDs."
  of = lambda what: [f"{split} {what}" for split in SPLITS]
  columns = ["label", *of("people"), "mean", *of("mean"), *of("distance, SDs")]
  return Chart(name, "Labels of each split beside all people", alt, figure, columns, rows)


def measures(table: pa.Table) -> Mapping[str, np.ndarray]:
  """float64 [people] for each label, NaN where unknown: a number as it is, else 0 or 1 for each frequent value."""
  found: dict[str, np.ndarray] = {}
  for label in table.column_names:
    if label in ("participant", "split", "days"):
      continue
    values = table[label].to_pylist()
    known = [value for value in values if value is not None]
    if known and not isinstance(known[0], str):
      found[label] = np.array([math.nan if value is None else float(value) for value in values])
      continue
    frequent = [value for value, _ in collections.Counter(sorted(known)).most_common(MOST_VALUES)]
    for each in frequent if len(frequent) != 2 else frequent[:1]:  # of two, one tells the other
      found[f"{label} = {each}"] = np.array([math.nan if value is None else float(value == each) for value in values])
  return found


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if values.size else math.nan


def _distances(names: Sequence[str], distances: np.ndarray):
  drawn = np.argsort(-np.nan_to_num(np.abs(distances)).max(axis=1), kind="stable")[:MOST_LABELS]
  figure, [panel] = panels(1.2 + 0.22 * len(drawn))
  for i, split in enumerate(SPLITS):
    panel.plot(distances[drawn, i], range(len(drawn)), MARKERS[i], color=SERIES[i], ms=4.5, label=split)
  panel.axvline(0, color=COLOURS["line"], lw=1)
  named_rows(panel, [names[i] for i in drawn])
  panel.set_xlabel("SDs from the mean of all people")
  figure.legend(loc="outside upper center", ncols=3)
  return figure
