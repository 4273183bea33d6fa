"""Charts of days of one's own: what was recorded when, how far each day is from the others, and single days."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from aim.report.my_days.filled_days import FilledDays
from aim.report.my_days.unlike import FAR
from data_pipelines.atlas import day_chart
from data_pipelines.page.blocks import number
from data_pipelines.page.chart import COLOURS, SERIES, Chart, heat_map, panels
from data_pipelines.schema import Schema
from data_pipelines.text_files import counted

PANELS = 6
_COLUMNS = 60  # of the map of all days
_FILLED = SERIES[0]
_OPACITY = {0.5: 0.35, 0.9: 0.2}  # of the bands


def panel_channels(schema: Schema, values: Float[np.ndarray, "days steps channels"], channels: list[int]) -> list[int]:
  """The channels that are drawn, the same on every day: at most PANELS, those recorded most, from all sensors."""
  flat = values.reshape(-1, values.shape[2])[:, channels]
  known = Schema(schema.minutes_per_step, tuple(schema.channels[c] for c in channels))
  return [channels[i] for i in day_chart.pick_channels(known, flat, PANELS)]


def coverage(made: FilledDays, names: Sequence[str]) -> Chart:
  """A map of the share of each day that was recorded, by channel; many days are grouped."""
  observed = ~np.isnan(made.days.values[:, :, made.channels])
  shares = observed.mean(axis=1)  # [days, channels]
  parts = np.array_split(np.arange(len(shares)), min(_COLUMNS, len(shares)))
  grid = np.stack([shares[part].mean(axis=0) for part in parts], axis=1)
  channels = [made.days.schema.names[c] for c in made.channels]
  figure, (panel,) = panels(0.9 + 0.2 * len(channels))
  heat_map(panel, grid)
  panel.set_yticks(range(len(channels)), [name.replace("_", " ") for name in channels])
  ticks = np.unique(np.linspace(0, len(parts) - 1, min(4, len(parts))).round().astype(int))
  panel.set_xticks(ticks, [names[parts[i][0]] for i in ticks], fontsize=7.5)
  of_each = "each column is a day" if len(parts) == len(shares) else f"{len(shares)} days in {len(parts)} columns"
  rows = [
    [names[part[0]], names[part[-1]], *(f"{share:.3f}" for share in column)]
    for part, column in zip(parts, grid.T, strict=True)
  ]
  alt = (
    f"Share of the day that was recorded, by channel; {of_each}. Full colour is the largest share, "
    f"{100 * grid.max():.0f} %; blank is nothing."
  )
  return Chart("recorded", "What was recorded", alt, figure, ["from", "to", *channels], rows)


def distances(names: Sequence[str], apart: Float[np.ndarray, " days"], scores: Float[np.ndarray, " days"]) -> Chart:
  """Each day's distance from the others; the far ones are marked."""
  far = np.nan_to_num(scores) > FAR
  figure, (panel,) = panels(2.4)
  at = np.arange(len(apart))
  panel.plot(at[~far], apart[~far], "o", color=SERIES[0], ms=3)
  panel.plot(at[far], apart[far], "D", color=SERIES[1], ms=4.5, label="unlike the others")
  ticks = np.unique(np.linspace(0, len(apart) - 1, min(4, len(apart))).round().astype(int))
  panel.set_xticks(ticks, [names[i] for i in ticks], fontsize=7.5)
  panel.set_ylim(bottom=0)
  panel.set_ylabel("distance")
  if far.any():
    panel.legend(loc="upper left")
  rows = [[name, number(float(a)), number(float(z))] for name, a, z in zip(names, apart, scores, strict=True)]
  alt = "Mean distance of each day to the three days of the same person that are nearest in the model's embedding."
  return Chart("unlike", "How far each day is from the others", alt, figure, ["day", "distance", "robust z"], rows)


def day(made: FilledDays, row: int, title: str, name: str, drawn: Sequence[int]) -> Chart:
  """One day: the recorded line, its holes, what fills them, and how sure that is.

  Args:
    made: the days.
    row: which of them.
    title: heading of the chart.
    name: anchor of the chart in the page.
    drawn: channels, a panel each.
  """
  schema, values, missing = made.days.schema, made.days.values[row], made.missing[row]
  figure, axes = panels(0.8 + 1.05 * len(drawn), len(drawn))
  for panel, c in zip(axes, drawn, strict=True):
    _panel(panel, made, row, c)
    panel.tick_params(labelbottom=panel is axes[-1])
  axes[-1].set_xlabel("hour of the day")
  entries: list[Line2D | Patch] = [
    Line2D([], [], color=COLOURS["ink"], lw=1, label="recorded"),
    Line2D([], [], color=_FILLED, lw=2, label="filled in by the model"),
    Patch(color=COLOURS["cause0"], label="not recorded"),
  ]
  entries += [
    Patch(color=_FILLED, alpha=_OPACITY[level], lw=0, label=f"holds {100 * level:.0f} % of such values")
    for level in made.intervals
  ]
  figure.legend(handles=entries, loc="outside lower center", ncols=2)
  columns, rows = _numbers(made, row, drawn)
  share = 100 * missing[:, drawn].mean()
  alt = f"{counted(len(drawn), 'channel')} of one day over 24 hours; {share:.0f} % was not recorded and is filled in."
  assert values.shape[0] == schema.steps
  return Chart(name, title, alt, figure, columns, rows)


def _panel(panel: Axes, made: FilledDays, row: int, c: int) -> None:
  schema, values = made.days.schema, made.days.values[row, :, c]
  missing = made.missing[row, :, c]
  day_chart.draw_line(panel, schema, c, values, [(missing, COLOURS["cause0"])])
  hours, how = day_chart.step_hours(schema), day_chart.line_style(schema, c)
  for level, (low, high) in made.intervals.items():
    low, high = (np.where(missing, end[row, :, c], np.nan) for end in (low, high))
    panel.fill_between(hours, low, high, color=_FILLED, alpha=_OPACITY[level], lw=0, zorder=2)
  beside = missing | np.append(missing[1:], False) | np.append(False, missing[:-1])  # a hole of one step is a line too
  panel.plot(hours, np.where(beside, made.filled[row, :, c], np.nan), color=_FILLED, lw=1.6, zorder=4, **how)


def _numbers(made: FilledDays, row: int, drawn: Sequence[int]) -> tuple[list[str], list[list[Any]]]:
  missing = made.missing[row]
  series = {"recorded": made.days.values[row], "filled in": np.where(missing, made.filled[row], np.nan)}
  for level, ends in made.intervals.items():
    for end, numbers in zip(("from", "to"), ends, strict=True):
      series[f"{100 * level:.0f} % {end}"] = np.where(missing, numbers[row], np.nan)
  columns, rows = day_chart.hourly_table(made.days.schema, drawn, series, missing, np.zeros(missing.shape, np.uint8))
  return columns[:-1], [numbers[:-1] for numbers in rows]  # nobody knows the causes
