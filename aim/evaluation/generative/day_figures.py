"""Figures of one day: what was recorded, what is missing or hidden, and what the model fills in."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from aim.common.plotting import INK, OBSERVED, RECONSTRUCTED, as_words, bare_axes, new_figure, save_figure
from data_pipelines.schema import Schema

INHERITED, HIDDEN, HIDDEN_TRUTH = "#dedede", "#ffe8c7", "#c26a00"


def day_chart(
  schema: Schema,
  truth: np.ndarray,
  visible: np.ndarray,
  reconstruction: np.ndarray,
  path: str | pathlib.Path,
  title: str,
  channels: Sequence[str] | None = None,
) -> None:
  """PNG of one day with one panel per channel.

  Args:
    schema: schema of the day.
    truth: [S, C] in physical units as recorded, NaN where the device gave nothing (shaded grey).
    visible: [S, C] as the model saw it: NaN also where observed values were hidden (shaded orange).
    reconstruction: [S, C] without NaN; drawn in the holes only.
    path: of the PNG.
    title: title above all panels.
    channels: names of the channels to draw; by default up to six, of different sensors and with much hidden.

  Raises:
    SchemaError: a channel is unknown.
    ValueError: a shape is not the schema's, or `channels` is empty.
  """
  _check_shapes(schema, truth=truth, visible=visible, reconstruction=reconstruction)
  picked = _pick_channels(schema, truth, visible) if channels is None else [schema.index(name) for name in channels]
  if not picked:
    raise ValueError("day chart: no channels to draw")
  figure = new_figure(11, 1.0 + 1.35 * len(picked))
  panels = figure.subplots(len(picked), 1, sharex=True, squeeze=False)[:, 0]
  for panel, c in zip(panels, picked, strict=True):
    _channel_panel(panel, schema, c, truth[:, c], visible[:, c], reconstruction[:, c])
  _hours(panels[-1], "hour of the day")
  figure.suptitle(title, fontsize=12, color=INK)
  figure.legend(handles=_day_handles(truth, visible), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
  save_figure(figure, path)


def day_heatmap(
  schema: Schema,
  truth: np.ndarray,
  visible: np.ndarray,
  reconstruction: np.ndarray,
  path: str | pathlib.Path,
  title: str,
) -> None:
  """PNG of all channels of one day as three images side by side: recorded, visible to the model, reconstructed.

  Each channel's colours cover the 2nd to 98th percentile of what was recorded. The arguments are those of `day_chart`.
  """
  _check_shapes(schema, truth=truth, visible=visible, reconstruction=reconstruction)
  scaled = [_scaled(values, truth) for values in (truth, visible, reconstruction)]
  figure = new_figure(13, 1.6 + max(1.2, 0.2 * len(schema.channels)))
  panels = figure.subplots(1, 3, sharey=True)
  hidden = np.isnan(visible) & ~np.isnan(truth)
  for panel, values, name in zip(
    panels, scaled, ("as recorded", "as the model sees it", "reconstruction"), strict=True
  ):
    image = _image(panel, schema, values)
    if name == "as the model sees it":
      over = np.where(hidden, 1.0, np.nan)
      _image(panel, schema, over, ListedColormap([HIDDEN]))
    panel.set_title(name, fontsize=10, color=INK)
    _hours(panel, "hour of the day", every=6)
  panels[0].set_yticks(range(len(schema.channels)), [as_words(name) for name in schema.names], fontsize=8)
  for panel in panels[1:]:
    panel.tick_params(left=False)
  height = figure.get_figheight()
  bar = figure.colorbar(image, ax=panels, shrink=min(0.9, 2 / height), aspect=12, pad=0.01, ticks=[0, 1])
  bar.ax.set_yticklabels(["low", "high"], fontsize=8)
  bar.outline.set_visible(False)
  figure.suptitle(title, fontsize=12, color=INK)
  handles = [
    Patch(color=INHERITED, label="missing: the device gave nothing"),
    Patch(color=HIDDEN, label="hidden by us"),
  ]
  figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
  save_figure(figure, path)


def _channel_panel(
  panel: Axes, schema: Schema, c: int, truth: np.ndarray, visible: np.ndarray, reconstruction: np.ndarray
) -> None:
  """Draws one channel's series [S]."""
  hours = (np.arange(schema.steps) + 0.5) * schema.minutes_per_step / 60
  hole = np.isnan(visible)
  half = schema.minutes_per_step / 120
  hidden = hole & ~np.isnan(truth)
  for steps, colour in ((np.isnan(truth), INHERITED), (hidden, HIDDEN)):
    for start, end in _runs(steps):
      panel.axvspan(hours[start] - half, hours[end - 1] + half, color=colour, lw=0, zorder=0)
  step: dict[str, Any] = {"drawstyle": "steps-mid"} if schema.binary[c] else {}
  _observed_line(panel, hours, np.where(_widened(hidden), truth, np.nan), HIDDEN_TRUTH, 2, step)
  _observed_line(panel, hours, visible, OBSERVED, 3, step)
  # A hole of one step would be a point, not a line: each stroke starts and ends at the observed neighbours.
  filled = np.where(hole, reconstruction, visible)
  panel.plot(hours, np.where(_widened(hole), filled, np.nan), color=RECONSTRUCTED, lw=1.9, zorder=4, **step)
  unit = schema.channels[c].unit
  panel.set_title(as_words(schema.names[c]) + (f" ({unit})" if unit else ""), loc="left", fontsize=9, color=INK, pad=3)
  panel.set_xlim(0, 24)
  panel.margins(y=0.08)
  panel.locator_params(axis="y", nbins=3)
  if schema.binary[c]:
    panel.set_yticks([0, 1])
    panel.set_ylim(-0.12, 1.12)
  bare_axes(panel)


def _observed_line(
  panel: Axes, hours: np.ndarray, values: np.ndarray, colour: str, zorder: int, step: dict[str, Any]
) -> None:
  """Draws a thin line, and dots for values with a hole on both sides, which a line does not show."""
  panel.plot(hours, values, color=colour, lw=0.9, zorder=zorder, **step)
  hole = np.isnan(np.concatenate([[np.nan], values, [np.nan]]))
  alone = ~hole[1:-1] & hole[:-2] & hole[2:]
  panel.plot(hours[alone], values[alone], ".", color=colour, ms=2.5, zorder=zorder)


def _day_handles(truth: np.ndarray, visible: np.ndarray) -> list[Line2D | Patch]:
  inherited, hidden = np.isnan(truth), np.isnan(visible) & ~np.isnan(truth)
  handles: list[Line2D | Patch] = [Line2D([], [], color=OBSERVED, lw=1.2, label="shown to the model")]
  if hidden.any():
    handles.append(Line2D([], [], color=HIDDEN_TRUTH, lw=1.2, label="hidden truth"))
  handles.append(Line2D([], [], color=RECONSTRUCTED, lw=2, label="reconstruction"))
  if hidden.any():
    handles.append(Patch(color=HIDDEN, label="hidden by us"))
  if inherited.any():
    handles.append(Patch(color=INHERITED, label="missing: the device gave nothing"))
  return handles


def _pick_channels(schema: Schema, truth: np.ndarray, visible: np.ndarray, most: int = 6) -> list[int]:
  """Up to `most` channels, in the schema's order: one of each sensor first, those with most hidden and observed."""
  observed = (~np.isnan(truth)).sum(axis=0)
  hidden = (np.isnan(visible) & ~np.isnan(truth)).sum(axis=0)
  ranked = sorted(range(len(schema.channels)), key=lambda c: (-hidden[c], -observed[c], c))
  seen: dict[str, int] = {}
  rounds = []
  for c in ranked:
    sensor = schema.channels[c].sensor or schema.names[c]
    seen[sensor] = seen.get(sensor, 0) + 1
    rounds.append((seen[sensor], c))
  return sorted(c for _, c in sorted(rounds, key=lambda pair: pair[0])[:most])


def _scaled(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """[S, C], scaled so that each channel's 2nd to 98th percentile of the truth becomes 0 to 1; NaN stays."""
  scaled = np.full(values.shape, np.nan)
  for c in range(values.shape[1]):
    seen = truth[~np.isnan(truth[:, c]), c]
    low, high = np.percentile(seen, [2, 98]) if seen.size else (0.0, 1.0)
    if high <= low:
      low, high = (float(seen.min()), float(seen.max())) if seen.size else (low, high)
    scaled[:, c] = (values[:, c] - low) / (high - low if high > low else 1)
  return scaled


def _image(panel: Axes, schema: Schema, values: np.ndarray, colours: str | Colormap = "viridis") -> AxesImage:
  panel.set_facecolor(INHERITED)
  extent = (0, 24, len(schema.channels) - 0.5, -0.5)
  image = panel.imshow(
    np.ma.masked_invalid(values.T), aspect="auto", interpolation="nearest", extent=extent, cmap=colours, vmin=0, vmax=1
  )
  panel.tick_params(length=2, colors=INK, labelsize=8)
  for side in panel.spines.values():
    side.set_visible(False)
  return image


def _runs(steps: np.ndarray) -> list[tuple[int, int]]:
  """[start, end) of each run of True in bool [S]."""
  edges = np.flatnonzero(np.diff(np.concatenate([[0], steps.astype(np.int8), [0]])))
  return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _widened(steps: np.ndarray) -> np.ndarray:
  """bool [S]: True steps and their neighbours."""
  wide = steps.copy()
  wide[1:] |= steps[:-1]
  wide[:-1] |= steps[1:]
  return wide


def _check_shapes(schema: Schema, **arrays: np.ndarray) -> None:
  expected = (schema.steps, len(schema.channels))
  for name, array in arrays.items():
    if array.shape != expected:
      raise ValueError(f"day chart: {name} has shape {array.shape}, expected {expected}")


def _hours(panel: Axes, label: str, every: int = 3) -> None:
  panel.set_xticks(range(0, 25, every), [f"{hour:02d}" for hour in range(0, 25, every)])
  panel.set_xlabel(label, fontsize=9, color=INK)
