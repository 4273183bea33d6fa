"""A single day: a map of what is missing in all channels, coloured by cause, and some channels as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from data_pipelines.atlas.counts import CAUSES, StoredDay, cause_of
from data_pipelines.atlas.gaps import runs
from data_pipelines.dataset import Dataset
from data_pipelines.page.chart import COLOURS, Chart, panels
from data_pipelines.schema import Schema
from data_pipelines.text_files import counted

CANDIDATES = 60  # days, evenly spaced over the splits, from which those to draw are chosen
LINES = 4  # channels drawn as lines
MOST_CHANNELS = 40  # drawn on the map

Shade = tuple[Bool[np.ndarray, " steps"], str]  # which steps to shade, and the colour


def choose_days(dataset: Dataset, splits: Sequence[str], count: int) -> list[tuple[str, StoredDay]]:
  """Chooses days to draw, from nearly complete ones to ones with few values.

  Args:
    dataset: the dataset.
    splits: the splits to choose from.
    count: number of days; fewer are returned if the splits hold fewer.

  Returns:
    (title, day) of days at evenly spaced ranks of their missing share, the most complete day first.
  """
  positions = [(split, i) for split in splits for i in range(dataset.num_days(split))]
  candidates = np.unique(np.linspace(0, len(positions) - 1, min(CANDIDATES, len(positions))).round().astype(int))
  stored = [dataset.days(split)[i] for split, i in (positions[candidate] for candidate in candidates)]
  days = sorted(stored, key=lambda day: float(np.isnan(day["values"]).mean()))
  ranks = np.unique(np.linspace(0, 0.9 * (len(days) - 1), count).round().astype(int))
  return [(_title(days[rank]), days[rank]) for rank in ranks]


def _title(day: StoredDay) -> str:
  missing = 100 * np.isnan(day["values"]).mean()
  return f"participant {day['participant'].decode()}, day {day['day']}: {missing:.0f} % missing"


def pick_channels(schema: Schema, values: Float[np.ndarray, "steps channels"], most: int) -> list[int]:
  """Indices of up to `most` channels to draw as lines: the most complete channel of each sensor first."""
  observed = (~np.isnan(values)).sum(axis=0)
  turns: dict[str, int] = {}
  ranked = []
  for c in sorted(range(len(schema.channels)), key=lambda c: (-observed[c], c)):
    sensor = schema.channels[c].sensor or schema.names[c]
    turns[sensor] = turns.get(sensor, 0) + 1
    ranked.append((turns[sensor], -observed[c], c))
  return sorted(c for *_, c in sorted(ranked)[:most])


def chart(schema: Schema, title: str, day: StoredDay, name: str) -> Chart:
  """Draws a day: the map of all channels, and some channels as lines.

  Args:
    schema: clock and channels.
    title: title of the chart.
    day: the stored day.
    name: name of the chart's files.
  """
  values, cause = np.asarray(day["values"]), cause_of(day)
  line_channels = pick_channels(schema, values, LINES)
  rows = min(len(schema.channels), MOST_CHANNELS)
  heights = [0.3 + 0.16 * rows, *[1.0] * len(line_channels)]
  figure, axes = panels(0.9 + sum(heights), len(heights), heights)
  _map(axes[0], schema, np.isnan(values), cause)
  for panel, c in zip(axes[1:], line_channels, strict=True):
    draw_line(panel, schema, c, values[:, c], causes_to_shade(np.isnan(values[:, c]), cause[:, c]))
    panel.tick_params(labelbottom=panel is axes[-1])
  axes[-1].set_xlabel("hour of the day")
  figure.legend(handles=cause_legend(np.isnan(values), cause), loc="outside lower center", ncols=2)
  alt = f"One day over 24 hours: what is missing in {counted(len(schema.channels), 'channel')}, coloured by cause, and "
  numbers = hourly_table(schema, range(len(schema.channels)), {"mean": values}, np.isnan(values), cause)
  return Chart(
    name, title, f"{alt}{counted(len(line_channels), 'channel')} as lines, whose gaps are shaded.", figure, *numbers
  )


def _map(
  panel: Axes, schema: Schema, missing: Bool[np.ndarray, "steps channels"], cause: UInt8[np.ndarray, "steps channels"]
) -> None:
  channels = min(len(schema.channels), MOST_CHANNELS)
  for k in range(len(CAUSES)):
    boxes = [(c, *run) for c in range(channels) for run in runs(missing[:, c] & (cause[:, c] == k))]
    if boxes:
      row, start, end = np.array(boxes, float).T
      hours = schema.minutes_per_step / 60
      panel.add_patch(_boxes(start * hours, end * hours, row - 0.42, row + 0.42, COLOURS[f"cause{k}"]))
  panel.set_yticks(range(channels), [name.replace("_", " ") for name in schema.names[:channels]], fontsize=7.5)
  panel.set_ylim(channels - 0.4, -0.6)
  panel.set_xlim(0, 24)
  panel.set_xticks(range(0, 25, 6))
  panel.grid(visible=False)
  panel.set_title("Missing" + (f" (the first {channels} channels)" if channels < len(schema.channels) else ""), pad=2)


def _boxes(
  left: Float[np.ndarray, " boxes"],
  right: Float[np.ndarray, " boxes"],
  low: Float[np.ndarray, " boxes"],
  high: Float[np.ndarray, " boxes"],
  colour: str,
) -> PathPatch:
  """Many boxes as one shape, because a page has thousands of them."""
  corners = np.stack([left, low, right, low, right, high, left, high, left, low], axis=1).reshape(-1, 2)
  codes = np.tile(np.array([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], np.uint8), len(left))
  return PathPatch(Path(corners, codes), facecolor=colour, lw=0)


def causes_to_shade(missing: Bool[np.ndarray, " steps"], cause: UInt8[np.ndarray, " steps"]) -> list[Shade]:
  """The missing steps of a channel by cause, each with the colour of its cause."""
  return [(missing & (cause == k), COLOURS[f"cause{k}"]) for k in range(len(CAUSES))]


def draw_line(
  panel: Axes, schema: Schema, c: int, recorded: Float[np.ndarray, " steps"], shaded: Sequence[Shade]
) -> None:
  """Draws channel c over the day: lines, and points where a value has no neighbour.

  Args:
    panel: where to draw.
    schema: clock and channels.
    c: index of the channel.
    recorded: its values, NaN where nothing is to be drawn.
    shaded: steps to shade in the background.
  """
  hours = schema.minutes_per_step / 60
  for shaded_steps, colour in shaded:
    for start, end in runs(shaded_steps):
      panel.axvspan(start * hours, end * hours, color=colour, lw=0, zorder=0)
  panel.plot(step_hours(schema), recorded, color=COLOURS["ink"], lw=0.8, zorder=3, **line_style(schema, c))
  draw_points(panel, schema, recorded, COLOURS["ink"])
  unit = schema.channels[c].unit
  panel.set_title(schema.names[c].replace("_", " ") + (f" ({unit})" if unit else ""), pad=2)
  panel.set_xlim(0, 24)
  panel.set_xticks(range(0, 25, 6))
  panel.locator_params(axis="y", nbins=3)
  if schema.binary[c]:
    panel.set_yticks([0, 1])
    panel.set_ylim(-0.12, 1.12)


def draw_points(panel: Axes, schema: Schema, values: Float[np.ndarray, " steps"], colour: str) -> None:
  """Draws a point for each value whose neighbours have none, of which a line would show nothing.

  Args:
    panel: where to draw.
    schema: clock and channels.
    values: a channel's, NaN where there is none; of a watch that reports every five minutes, all of them are alone.
    colour: of the points.
  """
  known = np.concatenate([[False], ~np.isnan(values), [False]])
  alone = known[1:-1] & ~known[:-2] & ~known[2:]
  panel.plot(step_hours(schema)[alone], values[alone], "o", ms=1.4, mew=0, color=colour, zorder=3)


def step_hours(schema: Schema) -> Float[np.ndarray, " steps"]:
  """The middle of each step, in hours since midnight."""
  return (np.arange(schema.steps) + 0.5) * schema.minutes_per_step / 60


def line_style(schema: Schema, c: int) -> dict[str, Any]:
  """The matplotlib style of a line of channel c: stairs if the channel is binary."""
  return {"drawstyle": "steps-mid"} if schema.binary[c] else {}


def cause_legend(
  missing: Bool[np.ndarray, "steps channels"], cause: UInt8[np.ndarray, "steps channels"]
) -> list[Patch]:
  """Entries of the legend for the causes that occur."""
  present = [k for k in range(len(CAUSES)) if (missing & (cause == k)).any()]
  return [Patch(color=COLOURS[f"cause{k}"], label=f"missing: {CAUSES[k]}") for k in present]


def hourly_table(
  schema: Schema,
  channels: Sequence[int],
  series: Mapping[str, Float[np.ndarray, "steps channels"]],
  missing: Bool[np.ndarray, "steps channels"],
  cause: UInt8[np.ndarray, "steps channels"],
) -> tuple[list[str], list[list[Any]]]:
  """The numbers of a day's chart: for each channel and hour, the means of some series and what is missing.

  Args:
    schema: clock and channels.
    channels: indices of the channels to list.
    series: arrays by the name of their column; NaNs do not enter the means.
    missing: which values are missing.
    cause: index into CAUSES of each missing value.

  Returns:
    The names of the columns, and the rows.
  """
  columns = ["channel", "hour", *series, "minutes missing", "causes"]
  hour = np.arange(schema.steps) * schema.minutes_per_step // 60
  rows = []
  for c in channels:
    for h in np.unique(hour):
      within = hour == h
      causes = ", ".join(CAUSES[k] for k in np.unique(cause[within & missing[:, c], c]))
      minutes = int(missing[within, c].sum()) * schema.minutes_per_step
      means = [_mean(values[within, c]) for values in series.values()]
      rows.append([schema.names[c], int(h), *means, minutes, causes])
  return columns, rows


def _mean(values: Float[np.ndarray, " values"]) -> str:
  known = values[~np.isnan(values)]
  return f"{known.mean():.4g}" if known.size else ""
