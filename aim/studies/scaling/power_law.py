"""Power laws with a level that they end at: L(x) = a x^-b + c (Kaplan et al. 2020; Hoffmann et al. 2022)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import least_squares

from aim.common.tables import PERCENTILES

LEAST = 4  # different x: one more than there are numbers to find
STEEPEST = 3.0  # bound on |b|
STARTS = tuple(itertools.product((0.05, 0.2, 0.5, 1.0, -0.2), (0.0, 0.5, 0.9)))  # b, and c as a share of the least y
WIDEST = 2.0  # bound on noise in log L: with one free residual it has no variance

Start = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Power:
  """L(x) = a x^-b + c; b above 0 where L falls, c at least 0."""

  a: float
  b: float
  c: float

  def __call__(self, x: Sequence[float] | np.ndarray) -> Float[np.ndarray, " n"]:
    return self.a * np.asarray(x, np.float64) ** -self.b + self.c


def fit(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, starts: Iterable[Start] = STARTS) -> Power:
  """The power law of the least squares of log L, the best of several starts.

  Args:
    x, y: [n], above 0.
    starts: (b, c / the least y) to start from.

  Raises:
    ValueError: fewer than LEAST different x, or a number that is not above 0.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if len(np.unique(x)) < LEAST:
    raise ValueError(f"{len(np.unique(x))} different points, a fit needs {LEAST}")
  if not (np.isfinite(y).all() and (y > 0).all() and (x > 0).all()):
    raise ValueError("a power law is of numbers above 0")
  middle, unit, floor = np.log(x).mean(), y.mean(), y.min() / y.mean()
  u, target = np.log(x) - middle, np.log(y / unit)
  # Found are the log of what is above c in the middle, b, and c; all near 1, whatever the units of x and y.
  bounds = ([-20, -STEEPEST, 0], [20, STEEPEST, floor])

  def law(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    above = np.exp(theta[0] - theta[1] * u)
    return above, above + theta[2]

  def residuals(theta: np.ndarray) -> np.ndarray:
    return np.log(law(theta)[1]) - target

  def slopes(theta: np.ndarray) -> np.ndarray:
    above, value = law(theta)
    return np.stack([above / value, -u * above / value, 1 / value], axis=1)

  tolerance = {"ftol": 1e-10, "xtol": 1e-10, "gtol": 1e-10}
  found = []
  for b, share in starts:
    start = np.clip([np.log(1 - share * floor + 1e-9), b, share * floor], *bounds)
    found.append(least_squares(residuals, start, slopes, bounds=bounds, **tolerance))
  log_above, b, c = min(found, key=lambda each: each.cost).x
  return Power(float(np.exp(log_above + b * middle) * unit), float(b), float(c * unit))


def misfit(law: Power, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> tuple[float, int]:
  """Sum of squared residuals of log L, and how many of them are free."""
  return float(np.square(np.log(np.asarray(y) / law(x))).sum()), len(x) - 3


def intervals(
  law: Power,
  x: Sequence[float] | np.ndarray,
  y: Sequence[float] | np.ndarray,
  draws: Float[np.ndarray, "draws n"],
  squares: float,
  free: int,
  seed: int = 0,
) -> tuple[Power, Power]:
  """The lower and upper ends of the 95 % intervals of a fit's numbers.

  Two things vary: who is scored, and how a training turned out. For the second each draw's points are moved by normal
  noise in log L, of a variance drawn from what the residuals leave possible (chi squared): few make wide intervals.

  Args:
    law, x, y: the fit and its points.
    draws: y of people drawn with replacement, the same for all points.
    squares, free: of misfit(), summed over the curves of which trainings vary alike; one curve's own may be too few.
  """
  y = np.asarray(y, np.float64)
  rng = np.random.default_rng(seed)
  sd = np.sqrt(squares / rng.chisquare(free, (len(draws), 1)))
  noise = np.clip(sd * rng.normal(size=draws.shape), -WIDEST, WIDEST)
  starts = [(law.b, law.c / y.min()), (0.2, 0.0)]
  samples = [dataclasses.astuple(fit(x, row, starts)) for row in draws * np.exp(noise)]
  low, high = np.percentile(samples, PERCENTILES, axis=0) if samples else np.full((2, 3), np.nan)
  return Power(*map(float, low)), Power(*map(float, high))


def front(cost: Sequence[float] | np.ndarray, loss: Sequence[float] | np.ndarray) -> Int[np.ndarray, " kept"]:
  """Indices of the lower envelope, by cost: what has a lower loss than all that costs as much or less."""
  order = sorted(range(len(cost)), key=lambda i: (cost[i], loss[i]))
  kept: list[int] = []
  for i in order:
    if not kept or loss[i] < loss[kept[-1]]:
      kept.append(i)
  return np.array(kept, int)
