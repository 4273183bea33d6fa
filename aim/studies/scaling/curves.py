"""Losses along the axes of a scaling study: power laws with intervals, and the compute-optimal front."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aim.common.progress import progress_bar
from aim.studies.scaling import power_law
from aim.studies.scaling.points import MEASURES, Point
from aim.studies.scaling.power_law import Power

AXES = ("participants", "hours", "parameters", "compute")
FLAT = 0.05  # a level below this share of the lowest loss is no level that can be told from 0


@dataclasses.dataclass(frozen=True)
class Curve:
  """One measure of one model along one axis, and its power law, or why there is none.

  Attributes:
    x, y: of the points it was fitted to, by x.
    law, low, high: the fit and the ends of its 95 % intervals.
  """

  dataset: str
  model: str
  measure: str
  axis: str
  x: list[float]
  y: list[float]
  law: Power | None = None
  low: Power | None = None
  high: Power | None = None
  why_not: str = ""

  def line(self) -> str:
    """In plain words."""
    who = f"{self.dataset}, {self.model}, {MEASURES[self.measure]}"
    if self.law is None or self.low is None or self.high is None:
      return f"{who}: no curve against {self.axis}: {self.why_not}"
    between = f"[{-self.high.b:.2g}, {-self.low.b:.2g}]"
    power = f"{self.axis}^{-self.law.b:.2g} {between}"
    if self.low.b <= 0 <= self.high.b:
      return f"{who}: no sure change with {self.axis} ({power})"
    level = f"levels off at {self.law.c:.3g} [{self.low.c:.3g}, {self.high.c:.3g}]"
    if self.low.c < FLAT * min(self.y):
      level = f"no level to be seen up to {max(self.x):.3g}"
    return f"{who}: {'falls' if self.law.b > 0 else 'rises'} as {power}; {level}"


def curves(found: Sequence[Point], at: Mapping[str, Any]) -> Iterator[Curve]:
  """Every measure of every model against every axis, the other axes as in `at`; compute along the front.

  Trainings of a model are taken to vary alike along all axes, so that what is known of it is the same for all.
  """
  groups = list(dict.fromkeys((point.dataset, point.model) for point in found))
  with progress_bar(len(groups) * len(MEASURES) * len(AXES), "fit", "curve") as bar:
    for dataset, model in groups:
      mine = [point for point in found if (point.dataset, point.model) == (dataset, model)]
      for measure in MEASURES:
        chosen = {axis: along(mine, axis, at, measure) for axis in AXES}
        fitted = [_fitted(points, Curve(dataset, model, measure, axis, [], [])) for axis, points in chosen.items()]
        misfits = [power_law.misfit(curve.law, curve.x, curve.y) for curve in fitted if curve.law]
        squares, free = (sum(column) for column in zip(*misfits, strict=True)) if misfits else (0.0, 0)
        for curve in fitted:
          yield _with_intervals(curve, chosen[curve.axis], squares, int(free))
          bar.update()


def along(points: Sequence[Point], axis: str, at: Mapping[str, Any], measure: str) -> list[Point]:
  """The points of a curve, by x."""
  whole = (at["participants"], at["days"])
  if axis == "compute":
    plane = _means_over_seeds([point for point in points if point.asked == whole])
    best = power_law.front([point.compute for point in plane], [point.value[measure] for point in plane])
    return [plane[i] for i in best]
  free = {"participants": 0, "hours": 1}.get(axis)
  fixed = lambda point: [asked for i, asked in enumerate(point.asked) if i != free]
  wanted = [number for i, number in enumerate(whole) if i != free]
  kept = [p for p in points if fixed(p) == wanted and p.steps == at["steps"]]
  kept = [p for p in kept if axis == "parameters" or p.size == at["size"]]
  return sorted(kept, key=lambda point: getattr(point, axis))


def _means_over_seeds(points: Sequence[Point]) -> list[Point]:
  """A front of single runs would be one of lucky seeds."""
  groups: dict[tuple, list[Point]] = {}
  for point in points:
    groups.setdefault((point.size, point.steps, point.asked), []).append(point)
  mean = lambda group, field: {name: np.mean([getattr(p, field)[name] for p in group], axis=0) for name in MEASURES}
  return [
    dataclasses.replace(group[0], value=mean(group, "value"), draws=mean(group, "draws")) for group in groups.values()
  ]


def _fitted(points: Sequence[Point], curve: Curve) -> Curve:
  x = [float(getattr(point, curve.axis)) for point in points]
  y = [float(point.value[curve.measure]) for point in points]
  try:
    return dataclasses.replace(curve, x=x, y=y, law=power_law.fit(x, y))
  except ValueError as error:
    return dataclasses.replace(curve, x=x, y=y, why_not=str(error))


def _with_intervals(curve: Curve, points: Sequence[Point], squares: float, free: int) -> Curve:
  if curve.law is None:
    return curve
  draws = np.stack([point.draws[curve.measure] for point in points], axis=1)
  draws = draws[np.isfinite(draws).all(axis=1)]
  low, high = power_law.intervals(curve.law, curve.x, curve.y, draws, squares, free)
  return dataclasses.replace(curve, low=low, high=high)
