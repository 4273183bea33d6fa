"""Held-out days: what was recorded, what is missing and why, what was hidden, and what each model fills in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from aim.report.workdir import Workdir
from data_pipelines.atlas import day_chart
from data_pipelines.atlas.counts import StoredDay, cause_of
from data_pipelines.context.other_days import profile_of_day
from data_pipelines.dataset import Dataset
from data_pipelines.page.blocks import Block, Choice, Section, TextLine
from data_pipelines.page.chart import COLOURS, SERIES, Chart, panels
from data_pipelines.schema import Schema
from data_pipelines.text_files import counted

PANELS = 6


@dataclasses.dataclass(frozen=True)
class DrawnDay:
  """A day as it is drawn.

  Attributes:
    title: its caption.
    values: [S, C] as recorded, in physical units, NaN where missing.
    visible: the same without the values hidden from the models.
    cause: uint8 [S, C], why a value is missing.
    reconstruction: [S, C] by workdir label, in physical units.
  """

  title: str
  values: np.ndarray
  visible: np.ndarray
  cause: np.ndarray
  reconstruction: dict[str, np.ndarray]


def section(workdirs: Sequence[Workdir], split: str, count: int) -> Section:
  """The section on example days of the first workdir's dataset, from the fullest to one with many holes.

  Args:
    workdirs: their models fill in the holes, where they fit the dataset.
    split: whose days are drawn.
    count: number of days, at most.
  """
  first = workdirs[0]
  blocks: list[Block] = []
  if first.dataset is None or not first.dataset.num_days(split):
    blocks.append(
      TextLine(f"There is no day to draw: {first.missing.get('dataset', 'no person is held out.')}", "hint")
    )
    return Section("day", "Example days", blocks)
  models = [w for w in workdirs if w.model and not first.dataset.schema.difference(w.model.schema)]
  with_decoder = [w for w in models if w.model and w.model.has_decoder]
  for workdir in workdirs:
    if workdir not in with_decoder:
      reason = workdir.missing.get("model") or ("it has no decoder" if workdir in models else "its schema is another")
      blocks.append(TextLine(f"{workdir.label}: not drawn: {reason}.", "hint"))
  chosen = day_chart.choose_days(first.dataset, [split], count)
  options = [
    (drawn.title, day_figure(first.dataset.schema, drawn, f"day-{i + 1}"))
    for i, drawn in enumerate(_drawn(first.dataset, split, day, title, with_decoder) for title, day in chosen)
  ]
  whose = _people(first.dataset, [day for _, day in chosen], with_decoder)
  blocks.insert(
    0,
    TextLine(
      f"Days of {whose}. Besides what the device lost, three hours of all channels and one channel for the whole day "
      "were hidden on purpose. The thin line is the hidden truth; the thick line is what the model fills in."
    ),
  )
  return Section("day", "Example days", [*blocks, Choice("Day", options)])


def _people(dataset: Dataset, days: Sequence[StoredDay], workdirs: Sequence[Workdir]) -> str:
  """Whose days these are, and whether the models were trained on them."""
  people = {day["participant"].decode() for day in days}
  texts = {w.label: w.model.seen_people(dataset, people).text for w in workdirs if w.model}
  if len({*texts.values()}) > 1:
    return "; ".join(f"{text} ({label})" for label, text in texts.items())
  return next(iter(texts.values()), counted(len(people), "person"))


def _drawn(dataset: Dataset, split: str, day: StoredDay, title: str, workdirs: Sequence[Workdir]) -> DrawnDay:
  values = np.asarray(day["values"])
  visible = _hide(values)
  reconstruction = {}
  for w in workdirs:
    if w.model:
      profile = profile_of_day(dataset, split, day, w.model.context_days, w.model.on_corrupt)
      reconstruction[w.label] = w.model.physical(w.model.reconstruct(visible[None], profile=profile))[0]
  return DrawnDay(title, values, visible, cause_of(day), reconstruction)


def _hide(values: np.ndarray) -> np.ndarray:
  """The values without 13 to 16 o'clock and without the fullest channel."""
  visible, steps = values.copy(), len(values)
  visible[int(steps * 13 / 24) : int(steps * 16 / 24)] = np.nan
  if values.shape[1] > 1:
    visible[:, np.isnan(values).mean(axis=0).argmin()] = np.nan
  return visible


def day_figure(schema: Schema, drawn: DrawnDay, name: str) -> Chart:
  """A chart of a day with one panel per channel, at most PANELS of them."""
  picked = day_chart.pick_channels(schema, drawn.values, PANELS)
  figure, axes = panels(0.8 + 1.05 * len(picked), len(picked))
  for panel, c in zip(axes, picked, strict=True):
    _panel(panel, schema, c, drawn)
    panel.tick_params(labelbottom=panel is axes[-1])
  axes[-1].set_xlabel("hour of the day")
  figure.legend(handles=_legend(drawn, picked), loc="outside lower center", ncols=2)
  alt = (
    f"{len(picked)} channels of one day over 24 hours: the recorded line, holes shaded by cause, "
    f"and what {' and '.join(drawn.reconstruction) or 'no model'} fills in."
  )
  return Chart(name, drawn.title, alt, figure, *_numbers(schema, drawn, picked))


def _panel(panel: Axes, schema: Schema, c: int, drawn: DrawnDay) -> None:
  values, visible = drawn.values[:, c], drawn.visible[:, c]
  hidden = np.isnan(visible) & ~np.isnan(values)
  shaded = [*day_chart.causes_to_shade(np.isnan(values), drawn.cause[:, c]), (hidden, COLOURS["hidden"])]
  day_chart.draw_line(panel, schema, c, visible, shaded)
  hours, how = day_chart.step_hours(schema), day_chart.line_style(schema, c)
  panel.plot(hours, np.where(_widened(hidden), values, np.nan), color=COLOURS["truth"], lw=0.9, zorder=2, **how)
  day_chart.draw_points(panel, schema, np.where(hidden, values, np.nan), COLOURS["truth"])
  for i, reconstruction in enumerate(drawn.reconstruction.values()):
    filled = np.where(np.isnan(visible), reconstruction[:, c], visible)
    line = np.where(_widened(np.isnan(visible)), filled, np.nan)
    panel.plot(hours, line, color=SERIES[i % len(SERIES)], lw=1.6, zorder=4, **how)


def _legend(drawn: DrawnDay, picked: Sequence[int]) -> list[Line2D | Patch]:
  return [
    Line2D([], [], color=COLOURS["ink"], lw=1, label="recorded"),
    Line2D([], [], color=COLOURS["truth"], lw=1, label="hidden truth"),
    *(Line2D([], [], color=SERIES[i % len(SERIES)], lw=2, label=n) for i, n in enumerate(drawn.reconstruction)),
    Patch(color=COLOURS["hidden"], label="hidden on purpose"),
    *day_chart.cause_legend(np.isnan(drawn.values[:, picked]), drawn.cause[:, picked]),
  ]


def _numbers(schema: Schema, drawn: DrawnDay, picked: Sequence[int]) -> tuple[list[str], list[list[Any]]]:
  """Hourly means of what was recorded, hidden and filled in, and minutes missing by cause."""
  hole = np.isnan(drawn.visible)
  series = {"shown": drawn.visible, "hidden truth": np.where(hole, drawn.values, np.nan)}
  series |= {label: np.where(hole, filled, np.nan) for label, filled in drawn.reconstruction.items()}
  return day_chart.hourly_table(schema, picked, series, np.isnan(drawn.values), drawn.cause)


def _widened(steps: np.ndarray) -> np.ndarray:
  """True steps and their neighbours, so that a hole of one step is drawn as a line too."""
  return steps | np.append(steps[1:], False) | np.append(False, steps[:-1])
