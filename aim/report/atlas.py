"""The missingness atlas of a dataset: how much is missing, where, when, for how long and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from aim import metrics
from aim.report.blocks import Block, Line, Section, percent
from aim.report.chart import COLOURS, Chart, panels
from aim.report.workdir import Workdir
from data_pipelines.dataset import Dataset
from data_pipelines.day import MISSINGNESS_MODES
from data_pipelines.splits import SPLITS

CAUSES = ("cause unknown", *(mode.replace("_", " ") for mode in MISSINGNESS_MODES))
# Upper bounds of the bins of gap lengths, in minutes; a gap of a whole day falls into the last.
LENGTHS = (2, 5, 10, 30, 60, 180, 360, 720, 1440)


@dataclasses.dataclass(frozen=True)
class Missing:
  """Counts over some days. C channels.

  Attributes:
    days: how many.
    hours: [24, C] missing steps; causes: [C, 7] missing steps by CAUSES.
    gaps: [len(LENGTHS)] gaps (runs of missing steps of one channel and day); gap_steps: their missing steps.
    steps_a_day: of the schema.
  """

  days: int
  hours: np.ndarray
  causes: np.ndarray
  gaps: np.ndarray
  gap_steps: np.ndarray
  steps_a_day: int

  @property
  def share(self) -> np.ndarray:
    """Missing share of each channel [C]."""
    return self.hours.sum(axis=0) / (self.days * self.steps_a_day)


def section(workdir: Workdir, days: int, name: str) -> Section:
  """Of up to `days` days, evenly over all splits. `name` begins the names of its charts."""
  if workdir.dataset is None:
    return Section(name, "Missingness", [Line(f"No dataset to look at: {workdir.missing['dataset']}", "hint")])
  dataset = workdir.dataset
  found = count(dataset, days)
  share, gaps = found.share, found.gaps.sum()
  most = int(share.argmax())
  blocks: list[Block] = [
    Line(
      f"{percent(float(share.mean()))} of all values are missing in {found.days} days of {dataset.name}; most in "
      f"{dataset.schema.names[most]} ({percent(float(share[most]))}). {gaps:,} gaps."
    ),
    _by_channel(dataset, found, f"{name}-channels"),
    _by_hour(dataset, found, f"{name}-hours"),
    _by_length(found, dataset.schema.minutes_per_step, f"{name}-lengths"),
  ]
  return Section(name, f"Missingness: {dataset.name}", blocks)


def count(dataset: Dataset, days: int) -> Missing:
  """Looks at up to `days` days."""
  channels, steps = len(dataset.schema.channels), dataset.schema.steps
  hour_of = np.arange(steps) * 24 // steps
  hours, causes = np.zeros((24, channels), np.int64), np.zeros((channels, len(CAUSES)), np.int64)
  gaps, gap_steps = np.zeros(len(LENGTHS), np.int64), np.zeros(len(LENGTHS), np.int64)
  chosen = _spread(dataset, days)
  with metrics.progress(len(chosen), "missingness", "day") as bar:
    for split, place in chosen:
      day = dataset.source(split)[place]
      hole, cause = np.isnan(day["values"]), cause_of(day)
      np.add.at(hours, hour_of, hole)
      for k in range(len(CAUSES)):
        causes[:, k] += (hole & (cause == k)).sum(axis=0)
      for c in range(channels):
        lengths = np.array([end - start for start, end in runs(hole[:, c])], np.int64)
        bins = np.searchsorted(LENGTHS, lengths * dataset.schema.minutes_per_step)
        np.add.at(gaps, bins, 1)
        np.add.at(gap_steps, bins, lengths)
      bar.update()
  return Missing(len(chosen), hours, causes, gaps, gap_steps, steps)


def _spread(dataset: Dataset, days: int) -> list[tuple[str, int]]:
  places = [(split, i) for split in SPLITS for i in range(dataset.num_days(split))]
  return [places[i] for i in np.unique(np.linspace(0, len(places) - 1, min(days, len(places))).round().astype(int))]


def cause_of(day: dict[str, Any]) -> np.ndarray:
  """uint8 [S, C] into CAUSES, to be read where a value is missing; 0 where the dataset knows no causes."""
  values = day["values"]
  return np.minimum(np.asarray(day.get("cause", np.zeros(values.shape, np.uint8))), len(CAUSES) - 1)


def runs(cells: np.ndarray) -> list[tuple[int, int]]:
  """[start, end) of each run of True in bool [S]."""
  edges = np.flatnonzero(np.diff(np.concatenate([[0], cells.astype(np.int8), [0]])))
  return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _names(dataset: Dataset) -> list[str]:
  return [name.replace("_", " ") for name in dataset.schema.names]


def _by_channel(dataset: Dataset, found: Missing, name: str) -> Chart:
  """Stacked bars, one a channel."""
  there = [k for k in range(len(CAUSES)) if found.causes[:, k].any()]
  shares = found.causes / (found.days * found.steps_a_day)
  figure, [panel] = panels(1.0 + 0.19 * len(shares) + 0.1 * len(there))
  left = np.zeros(len(shares))
  for k in there:
    panel.barh(
      range(len(shares)), 100 * shares[:, k], left=100 * left, height=0.72, color=COLOURS[f"cause{k}"], label=CAUSES[k]
    )
    left += shares[:, k]
  panel.set_yticks(range(len(shares)), _names(dataset))
  panel.set_ylim(len(shares) - 0.4, -0.6)
  panel.set_xlabel("% of the day missing")
  panel.grid(visible=True, axis="x")
  panel.grid(visible=False, axis="y")
  if there:
    figure.legend(loc="outside lower center", ncols=2)
  rows = [
    [channel, f"{100 * found.share[c]:.2f}", *(f"{100 * shares[c, k]:.2f}" for k in there)]
    for c, channel in enumerate(dataset.schema.names)
  ]
  alt = "Bars: share of the day that is missing in each channel, by cause where it is known."
  columns = ["channel", "missing %", *(f"{CAUSES[k]} %" for k in there)]
  return Chart(name, "Missing share of each channel, by cause", alt, figure, columns, rows)


def _by_hour(dataset: Dataset, found: Missing, name: str) -> Chart:
  share = found.hours / (found.days * found.steps_a_day / 24)
  most = max(float(share.max()), 1e-9)
  figure, [panel] = panels(0.7 + 0.19 * share.shape[1])
  # Opacity is the share, so that one drawing serves light and dark.
  image = np.empty((share.shape[1], 24, 4))
  image[..., :3] = [int(COLOURS["s0"][i : i + 2], 16) / 255 for i in (1, 3, 5)]
  image[..., 3] = share.T / most
  panel.pcolormesh(np.arange(25), np.arange(share.shape[1] + 1) - 0.5, image)
  panel.set_yticks(range(share.shape[1]), _names(dataset))
  panel.set_ylim(share.shape[1] - 0.5, -0.5)
  panel.set_xticks(range(0, 25, 6))
  panel.set_xlabel("hour of the day")
  panel.grid(visible=False)
  rows = [[channel, *(f"{100 * share[h, c]:.0f}" for h in range(24))] for c, channel in enumerate(dataset.schema.names)]
  alt = f"Heat map: share missing in each channel at each hour, from blank (nothing) to full colour ({percent(most)})."
  columns = ["channel, % missing", *(f"{h} h" for h in range(24))]
  return Chart(name, "Missing share by hour of the day", alt, figure, columns, rows)


def _by_length(found: Missing, minutes_per_step: int, name: str) -> Chart:
  labels = [f"to {m} min" if m < 60 else f"to {m // 60} h" for m in LENGTHS]
  used = [i for i, minutes in enumerate(LENGTHS) if minutes >= minutes_per_step]
  total, steps = max(found.gaps.sum(), 1), max(found.gap_steps.sum(), 1)
  figure, [panel] = panels(2.6)
  place = np.arange(len(used))
  panel.bar(place - 0.2, 100 * found.gaps[used] / total, 0.38, color=COLOURS["s4"], label="% of the gaps")
  panel.bar(place + 0.2, 100 * found.gap_steps[used] / steps, 0.38, color=COLOURS["s1"], label="% of the missing time")
  panel.set_xticks(
    place, [labels[i].removeprefix("to ") for i in used], rotation=45, ha="right", rotation_mode="anchor"
  )
  panel.set_xlabel("length of the gap, up to")
  figure.legend(loc="outside upper center", ncols=2)
  rows = [
    [labels[i], int(found.gaps[i]), f"{100 * found.gaps[i] / total:.1f}", f"{100 * found.gap_steps[i] / steps:.1f}"]
    for i in used
  ]
  alt = "Bars: share of the gaps, and of the missing time, by the length of the gap."
  columns = ["length of the gap", "gaps", "% of the gaps", "% of the missing time"]
  return Chart(name, "How long the gaps are", alt, figure, columns, rows)
