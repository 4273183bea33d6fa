"""Power laws with intervals along the axes of a scaling study, and the compute-optimal front."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aim.common.progress import progress_bar
from aim.studies.scaling import power_law
from aim.studies.scaling.points import MEASURES, ScalingPoint
from aim.studies.scaling.power_law import Power
from data_pipelines.text_files import plain_number

AXES = ("participants", "hours", "parameters", "compute")
FLAT = 0.05  # a level below this share of the lowest loss cannot be told from 0


@dataclasses.dataclass(frozen=True)
class Curve:
  """One measure of one model along one axis, with its power law or the reason why there is none.

  Attributes:
    x, y: the points that it was fitted to, in the order of x.
    law, low, high: the fit, and the ends of the 95 % intervals of its parameters.
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
    """The fit as a sentence."""
    who = f"{self.dataset}, {self.model}, {MEASURES[self.measure]}"
    if self.law is None or self.low is None or self.high is None:
      return f"{who}: no curve against {self.axis}: {self.why_not}"
    between = f"[{-self.high.b:.2g}, {-self.low.b:.2g}]"
    power = f"{self.axis}^{-self.law.b:.2g} {between}"
    if self.low.b <= 0 <= self.high.b:
      return f"{who}: no sure change with {self.axis} ({power})"
    level = f"levels off at {self.law.c:.3g} [{self.low.c:.3g}, {self.high.c:.3g}]"
    if self.low.c < FLAT * min(self.y):
      level = f"no level to be seen up to {plain_number(max(self.x))}"
    return f"{who}: {'falls' if self.law.b > 0 else 'rises'} as {power}; {level}"


def curves(points: Sequence[ScalingPoint], at: Mapping[str, Any]) -> Iterator[Curve]:
  """Fits every measure of every model against every axis, with the other axes as in `at`; compute along the front.

  The scatter of a model's trainings is assumed to be the same along all axes, so that one estimate serves all.
  """
  groups = list(dict.fromkeys((point.dataset, point.model) for point in points))
  with progress_bar(len(groups) * len(MEASURES) * len(AXES), "fit", "curve") as bar:
    for dataset, model in groups:
      mine = [point for point in points if (point.dataset, point.model) == (dataset, model)]
      for measure in MEASURES:
        by_axis = {axis: along(mine, axis, at, measure) for axis in AXES}
        fitted = [_fitted(some, Curve(dataset, model, measure, axis, [], [])) for axis, some in by_axis.items()]
        misfits = [power_law.misfit(curve.law, curve.x, curve.y) for curve in fitted if curve.law]
        squares, free = (sum(column) for column in zip(*misfits, strict=True)) if misfits else (0.0, 0)
        for curve in fitted:
          yield _with_intervals(curve, by_axis[curve.axis], squares, int(free))
          bar.update()


def along(points: Sequence[ScalingPoint], axis: str, at: Mapping[str, Any], measure: str) -> list[ScalingPoint]:
  """The points of a curve, in the order of x."""
  whole = (at["participants"], at["days"])
  if axis == "compute":
    plane = _means_over_seeds([point for point in points if point.limits == whole])
    best = power_law.front([point.compute for point in plane], [point.value[measure] for point in plane])
    return [plane[i] for i in best]
  free = {"participants": 0, "hours": 1}.get(axis)
  fixed = lambda limits: [limit for i, limit in enumerate(limits) if i != free]
  on_curve = [p for p in points if fixed(p.limits) == fixed(whole) and p.steps == at["steps"]]
  on_curve = [p for p in on_curve if axis == "parameters" or p.size == at["size"]]
  return sorted(on_curve, key=lambda point: getattr(point, axis))


def _means_over_seeds(points: Sequence[ScalingPoint]) -> list[ScalingPoint]:
  """One point for all seeds of a training: a front of single runs would be a front of lucky seeds."""
  groups: dict[tuple, list[ScalingPoint]] = {}
  for point in points:
    groups.setdefault((point.size, point.steps, point.limits), []).append(point)
  mean = lambda group, field: {name: np.mean([getattr(p, field)[name] for p in group], axis=0) for name in MEASURES}
  return [
    dataclasses.replace(group[0], value=mean(group, "value"), draws=mean(group, "draws")) for group in groups.values()
  ]


def _fitted(points: Sequence[ScalingPoint], curve: Curve) -> Curve:
  x = [float(getattr(point, curve.axis)) for point in points]
  y = [float(point.value[curve.measure]) for point in points]
  try:
    return dataclasses.replace(curve, x=x, y=y, law=power_law.fit(x, y))
  except ValueError as error:
    return dataclasses.replace(curve, x=x, y=y, why_not=str(error))


def _with_intervals(curve: Curve, points: Sequence[ScalingPoint], squares: float, free: int) -> Curve:
  if curve.law is None:
    return curve
  draws = np.stack([point.draws[curve.measure] for point in points], axis=1)
  draws = draws[np.isfinite(draws).all(axis=1)]
  low, high = power_law.intervals(curve.law, curve.x, curve.y, draws, squares, free)
  return dataclasses.replace(curve, low=low, high=high)
