"""Charts of the observed values of each channel: their range compared with the clip, and how many lie at its edges."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from data_pipelines.atlas.counts import Counts
from data_pipelines.atlas.missing_charts import drawn_channels, title_suffix
from data_pipelines.atlas.value_ranges import ValueRanges
from data_pipelines.dataset import Dataset
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.page.chart import COLOURS, MARKERS, SERIES, Chart, named_rows, panels

COLUMNS = ("channel", "unit", "kind", "values", "allowed from", "to", "smallest", "1 %", "median", "99 %", "largest")
_LEAST_DRAWN = 0.01  # %, smaller shares are not drawn
EDGES = ("at the smallest value %", "at the largest value %", "below the clip %", "above the clip %")

Bounds = Mapping[str, tuple[float, float]]  # channel name -> smallest and largest allowed value


def bounds_of(dataset: Dataset) -> Bounds:
  """The bounds that the recipe of an import sets, by channel; empty if the dataset was not imported."""
  path = dataset.path / "recipe.yaml"
  signals = Recipe.load(path).signals if path.is_file() else ()
  return {signal.name: (signal.low, signal.high) for signal in signals}


def charts(counts: Counts, bounds: Bounds, name: str) -> list[Chart]:
  """The charts of the channels that were observed; their names begin with `name`."""
  assert counts.ranges is not None
  drawn = [c for c in drawn_channels(counts) if counts.ranges.observed[c]]
  return [_ranges(counts, drawn, bounds, f"{name}-ranges"), _edges(counts, drawn, f"{name}-edges")]


def _ranges(counts: Counts, drawn: list[int], bounds: Bounds, name: str) -> Chart:
  """Draws the ranges of continuous channels in SDs; binary channels appear only in the numbers."""
  ranges = counts.ranges
  assert ranges is not None
  schema = counts.schema
  drawn = [c for c in drawn if not schema.binary[c]]
  clips = schema.clips.astype(float)
  far = 1.3 * float(clips[drawn].max(initial=1))
  figure, [panel] = panels(1.1 + 0.19 * len(drawn))
  rows = np.arange(len(drawn))
  end = lambda extremes: np.clip([ranges.z(c, extremes[c]) for c in drawn], -far, far)
  at = lambda share: [ranges.quantile(c, share) for c in drawn]
  panel.hlines(rows, end(ranges.low), end(ranges.high), color=COLOURS["line"], lw=1, label="all values")
  panel.hlines(rows, at(0.01), at(0.99), color=COLOURS["s4"], lw=5, label="1 % to 99 %")
  clip = np.concatenate([-clips[drawn], clips[drawn]])
  panel.plot(clip, np.tile(rows, 2), marker="|", color=COLOURS["s1"], ms=5, lw=0, label="clip")
  allowed = [(ranges.z(c, value), row) for row, c in enumerate(drawn) for value in bounds.get(schema.names[c], ())]
  if near := [point for point in allowed if abs(point[0]) <= far]:
    panel.plot(*zip(*near, strict=True), marker="x", color=COLOURS["s3"], ms=4, lw=0, label="bound of the recipe")
  panel.plot(at(0.5), rows, "o", color=COLOURS["ink"], ms=3, label="median")
  named_rows(panel, [schema.names[c] for c in drawn])
  panel.set_xlim(-1.02 * far, 1.02 * far)
  panel.set_xlabel("distance from the mean, SDs")
  figure.legend(loc="outside upper center", ncols=3, columnspacing=1, handlelength=1)
  alt = f"Range of the values of each continuous channel in SDs from its mean; lines end at {far:.3g} SDs at most."
  numbers = [_row(ranges, c, bounds) for c in range(len(schema.channels))]
  return Chart(name, f"Value ranges{title_suffix(counts)}", alt, figure, [*COLUMNS, *EDGES], numbers)


def _row(ranges: ValueRanges, c: int, bounds: Bounds) -> list[object]:
  channel, observed = ranges.schema.channels[c], int(ranges.observed[c])
  allowed = [f"{value:.6g}" if math.isfinite(value) else "" for value in bounds.get(channel.name, (math.inf, math.inf))]
  facts: list[object] = [channel.name, channel.unit, channel.kind, observed, *allowed]
  if not observed:
    return facts + [""] * (len(COLUMNS) + len(EDGES) - len(facts))
  value = lambda share: ranges.statistics.mean[c] + ranges.statistics.std[c] * ranges.quantile(c, share)
  middle = ["", "", ""] if channel.kind == "binary" else [f"{value(share):.4g}" for share in (0.01, 0.5, 0.99)]
  edges = [f"{100 * share:.3f}" for share in edge_shares(ranges, c)]
  return [*facts, f"{ranges.low[c]:.6g}", *middle, f"{ranges.high[c]:.6g}", *edges]


def edge_shares(ranges: ValueRanges, c: int) -> list[float]:
  """Shares of channel c's observed values at each of EDGES; a binary channel is never clipped."""
  clipped = [0, 0] if ranges.schema.binary[c] else [ranges.below[c], ranges.above[c]]
  numbers = [ranges.at_low[c], ranges.at_high[c], *clipped]
  return [float(number / ranges.observed[c]) if ranges.observed[c] else math.nan for number in numbers]


def _edges(counts: Counts, drawn: list[int], name: str) -> Chart:
  """Draws the shares of values at the edges, on a logarithmic scale."""
  ranges = counts.ranges
  assert ranges is not None
  shares = 100 * np.array([edge_shares(ranges, c) for c in drawn]).reshape(-1, len(EDGES))
  figure, [panel] = panels(1.2 + 0.19 * len(drawn))
  for k, label in enumerate(EDGES):
    visible = np.where(shares[:, k] >= _LEAST_DRAWN, shares[:, k], np.nan)
    panel.plot(visible, range(len(drawn)), MARKERS[k], color=SERIES[k], ms=4, label=label.removesuffix(" %"))
  named_rows(panel, [counts.schema.names[c] for c in drawn])
  panel.set_xscale("log")
  panel.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
  panel.set_xticks([], minor=True)
  panel.set_xlim(_LEAST_DRAWN, 150)
  panel.set_xlabel("% of the channel's values")
  figure.legend(loc="outside upper center", ncols=2)
  alt = "Share of each channel's values that equal its smallest or largest value, or that lie beyond the clip."
  rows = [
    [counts.schema.names[c], *(f"{share:.4f}" for share in edges)] for c, edges in zip(drawn, shares, strict=True)
  ]
  return Chart(name, f"Values at the edges{title_suffix(counts)}", alt, figure, ["channel", *EDGES], rows)
