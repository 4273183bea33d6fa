"""Held-out days: what was recorded, what is missing and why, what we hid, and what each model puts there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from aim.report.atlas import CAUSES, cause_of, runs
from aim.report.blocks import Block, Choice, Line, Section
from aim.report.chart import COLOURS, SERIES, Chart, panels
from aim.report.workdir import Workdir
from data_pipelines.dataset import Dataset
from data_pipelines.schema import Schema

CANDIDATES = 60  # held-out days, evenly over the split, that the drawn ones are chosen from
PANELS = 6


@dataclasses.dataclass(frozen=True)
class DrawnDay:
  """values and shown [S, C] in physical units; cause uint8 [S, C]; reconstruction [S, C] by workdir label."""

  title: str
  values: np.ndarray
  shown: np.ndarray
  cause: np.ndarray
  reconstruction: dict[str, np.ndarray]


def section(workdirs: Sequence[Workdir], split: str, count: int) -> Section:
  """Up to `count` days of the first workdir's dataset, from the fullest to one with many holes."""
  first = workdirs[0]
  blocks: list[Block] = []
  if first.dataset is None or not first.dataset.num_days(split):
    blocks.append(Line(f"No day to draw: {first.missing.get('dataset', 'no person is held out.')}", "hint"))
    return Section("day", "A day and its holes", blocks)
  models = [w for w in workdirs if w.model and not first.dataset.schema.difference(w.model.schema)]
  able = [w for w in models if w.model and w.model.generates]
  for workdir in workdirs:
    if workdir not in able:
      why = workdir.missing.get("model") or ("it reconstructs nothing" if workdir in models else "of another schema")
      blocks.append(Line(f"{workdir.label}: not drawn, {why}.", "hint"))
  days = _choose(first.dataset, split, count)
  options = [
    (drawn.title, _chart(first.dataset.schema, drawn, f"day-{i + 1}"))
    for i, drawn in enumerate(_drawn(first.dataset, day, title, able) for title, day in days)
  ]
  blocks.insert(
    0,
    Line(
      "People the model never saw. Beside what the device lost we hid three hours of all channels and one channel for "
      "the whole day; the truth there is the thin line, what the model puts into every hole the thick one."
    ),
  )
  return Section("day", "A day and its holes", [*blocks, Choice("Day", options)])


def _choose(dataset: Dataset, split: str, count: int) -> list[tuple[str, dict[str, Any]]]:
  """Days at evenly spaced ranks of their missing share."""
  source = dataset.source(split)
  places = np.unique(np.linspace(0, len(source) - 1, min(CANDIDATES, len(source))).round().astype(int))
  days = sorted((source[int(i)] for i in places), key=lambda day: float(np.isnan(day["values"]).mean()))
  ranks = np.unique(np.linspace(0, 0.9 * (len(days) - 1), count).round().astype(int))
  title = lambda day: (
    f"participant {day['participant'].decode()}, day {day['day']}: {100 * np.isnan(day['values']).mean():.0f} % missing"
  )
  return [(title(days[r]), days[r]) for r in ranks]


def _drawn(dataset: Dataset, day: dict[str, Any], title: str, workdirs: Sequence[Workdir]) -> DrawnDay:
  values = np.asarray(day["values"])
  shown = _hide(values)
  reconstruction = {w.label: w.model.physical(w.model.reconstruct(shown[None]))[0] for w in workdirs if w.model}
  return DrawnDay(title, values, shown, cause_of(day), reconstruction)


def _hide(values: np.ndarray) -> np.ndarray:
  """values without 13 to 16 o'clock, and without the fullest channel."""
  shown, steps = values.copy(), len(values)
  shown[int(steps * 13 / 24) : int(steps * 16 / 24)] = np.nan
  if values.shape[1] > 1:
    shown[:, np.isnan(values).mean(axis=0).argmin()] = np.nan
  return shown


def _pick(schema: Schema, drawn: DrawnDay) -> list[int]:
  """Channels to draw: the fullest of each sensor first, the lost one among them."""
  observed = (~np.isnan(drawn.values)).sum(axis=0)
  turns: dict[str, int] = {}
  ranked = []
  for c in sorted(range(len(schema.channels)), key=lambda c: (-observed[c], c)):
    sensor = schema.channels[c].sensor or schema.names[c]
    turns[sensor] = turns.get(sensor, 0) + 1
    ranked.append((turns[sensor], -observed[c], c))
  return sorted(c for *_, c in sorted(ranked)[:PANELS])


def _chart(schema: Schema, drawn: DrawnDay, name: str) -> Chart:
  picked = _pick(schema, drawn)
  figure, axes = panels(0.8 + 1.05 * len(picked), len(picked))
  for panel, c in zip(axes, picked, strict=True):
    _panel(panel, schema, c, drawn)
    panel.tick_params(labelbottom=panel is axes[-1])
  axes[-1].set_xlabel("hour of the day")
  figure.legend(handles=_legend(drawn, picked), loc="outside lower center", ncols=2)
  alt = (
    f"{len(picked)} channels of one day over 24 hours: the recorded line, holes shaded by cause, "
    f"and what {' and '.join(drawn.reconstruction) or 'nobody'} reconstructs in them."
  )
  return Chart(name, drawn.title, alt, figure, *_numbers(schema, drawn, picked))


def _panel(panel: Axes, schema: Schema, c: int, drawn: DrawnDay) -> None:
  minutes = schema.minutes_per_step
  hours = (np.arange(schema.steps) + 0.5) * minutes / 60
  values, shown = drawn.values[:, c], drawn.shown[:, c]
  hidden = np.isnan(shown) & ~np.isnan(values)
  kinds = [(np.isnan(values) & (drawn.cause[:, c] == k), COLOURS[f"cause{k}"]) for k in range(len(CAUSES))]
  for cells, colour in [*kinds, (hidden, COLOURS["hidden"])]:
    for start, end in runs(cells):
      panel.axvspan(start * minutes / 60, end * minutes / 60, color=colour, lw=0, zorder=0)
  how: dict[str, Any] = {"drawstyle": "steps-mid"} if schema.binary[c] else {}
  panel.plot(hours, np.where(_widened(hidden), values, np.nan), color=COLOURS["truth"], lw=0.9, zorder=2, **how)
  panel.plot(hours, shown, color=COLOURS["ink"], lw=0.8, zorder=3, **how)
  for i, reconstruction in enumerate(drawn.reconstruction.values()):
    filled = np.where(np.isnan(shown), reconstruction[:, c], shown)
    line = np.where(_widened(np.isnan(shown)), filled, np.nan)
    panel.plot(hours, line, color=SERIES[i % len(SERIES)], lw=1.6, zorder=4, **how)
  unit = schema.channels[c].unit
  panel.set_title(schema.names[c].replace("_", " ") + (f" ({unit})" if unit else ""), pad=2)
  panel.set_xlim(0, 24)
  panel.set_xticks(range(0, 25, 6))
  panel.locator_params(axis="y", nbins=3)
  if schema.binary[c]:
    panel.set_yticks([0, 1])
    panel.set_ylim(-0.12, 1.12)


def _legend(drawn: DrawnDay, picked: Sequence[int]) -> list[Line2D | Patch]:
  missing = np.isnan(drawn.values[:, picked])
  there = [k for k in range(len(CAUSES)) if (missing & (drawn.cause[:, picked] == k)).any()]
  return [
    Line2D([], [], color=COLOURS["ink"], lw=1, label="recorded"),
    Line2D([], [], color=COLOURS["truth"], lw=1, label="hidden truth"),
    *(Line2D([], [], color=SERIES[i % len(SERIES)], lw=2, label=n) for i, n in enumerate(drawn.reconstruction)),
    Patch(color=COLOURS["hidden"], label="hidden by us"),
    *(Patch(color=COLOURS[f"cause{k}"], label=f"missing: {CAUSES[k]}") for k in there),
  ]


def _numbers(schema: Schema, drawn: DrawnDay, picked: Sequence[int]) -> tuple[list[str], list[list[Any]]]:
  """Hour by hour: means of what was recorded, hidden and reconstructed, and minutes missing by cause."""
  columns = ["channel", "hour", "shown", "hidden truth", *drawn.reconstruction, "minutes missing", "causes"]
  hour = np.arange(schema.steps) * schema.minutes_per_step // 60
  rows = []
  for c in picked:
    hole = np.isnan(drawn.shown[:, c])
    for h in range(24):
      now = hour == h
      rows.append(
        [
          schema.names[c],
          h,
          _mean(drawn.shown[now, c]),
          _mean(drawn.values[now & hole, c]),
          *(_mean(found[now & hole, c]) for found in drawn.reconstruction.values()),
          int(np.isnan(drawn.values[now, c]).sum()) * schema.minutes_per_step,
          ", ".join(CAUSES[k] for k in np.unique(drawn.cause[now & np.isnan(drawn.values[:, c]), c])),
        ]
      )
  return columns, rows


def _mean(values: np.ndarray) -> str:
  seen = values[~np.isnan(values)]
  return f"{seen.mean():.4g}" if seen.size else ""


def _widened(cells: np.ndarray) -> np.ndarray:
  """True cells and their neighbours, so that a hole of one step is a line too."""
  return cells | np.append(cells[1:], False) | np.append(False, cells[:-1])
