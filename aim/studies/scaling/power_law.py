"""Power laws that level off, L(x) = a x^-b + c (Kaplan et al. 2020; Hoffmann et al. 2022)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import least_squares

from aim.common.tables import PERCENTILES

LEAST = 4  # different x: one more than a fit has parameters
STEEPEST = 3.0  # bound on |b|
STARTS = tuple(itertools.product((0.05, 0.2, 0.5, 1.0, -0.2), (0.0, 0.5, 0.9)))  # b, and c / the least y
WIDEST = 2.0  # bound on noise in log L, whose variance is infinite with a single degree of freedom

Start = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Power:
  """L(x) = a x^-b + c, where b is above 0 if L falls, and c is at least 0."""

  a: float
  b: float
  c: float

  def __call__(self, x: Sequence[float] | np.ndarray) -> Float[np.ndarray, " n"]:
    """L at each x [n]."""
    return self.a * np.asarray(x, np.float64) ** -self.b + self.c


def fit(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, starts: Iterable[Start] = STARTS) -> Power:
  """The power law that fits log L best by least squares, over several starts.

  Args:
    x, y: [n], above 0.
    starts: (b, c / the least y) to start from.

  Raises:
    ValueError: fewer than LEAST different x, x and y of different lengths, or a number that is not above 0.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if x.ndim != 1 or x.shape != y.shape:
    raise ValueError(f"x has shape {x.shape} and y {y.shape}, expected as many numbers of each")
  if len(np.unique(x)) < LEAST:
    raise ValueError(f"{len(np.unique(x))} different points, a fit needs {LEAST}")
  if not (np.isfinite(x).all() and np.isfinite(y).all() and (y > 0).all() and (x > 0).all()):
    raise ValueError("a power law needs numbers above 0")
  middle, unit, floor = np.log(x).mean(), y.mean(), y.min() / y.mean()
  u, target = np.log(x) - middle, np.log(y / unit)
  # theta: the log of L - c at the mean of log x, then b and c; all are near 1, whatever the units of x and y.
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
  fits = []
  for b, share in starts:
    start = np.clip([np.log(1 - share * floor + 1e-9), b, share * floor], *bounds)
    fits.append(least_squares(residuals, start, slopes, bounds=bounds, **tolerance))
  log_above, b, c = min(fits, key=lambda solution: solution.cost).x
  return Power(float(np.exp(log_above + b * middle) * unit), float(b), float(c * unit))


def misfit(law: Power, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> tuple[float, int]:
  """The sum of squared residuals of log L, and its degrees of freedom."""
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
  """The lower and upper ends of the 95 % intervals of a fit's parameters.

  Two things vary: which people are scored, and how a training happens to turn out. For the second, the points of each
  draw are moved by normal noise in log L, whose variance is drawn from the distribution that the residuals allow (chi
  squared), so that few points make wide intervals.

  Args:
    law, x, y: the fit and its points.
    draws: y of people drawn with replacement, the same people for all points of a draw.
    squares, free: misfit(), summed over all curves with the same scatter; one curve alone may have too few points.
  """
  y = np.asarray(y, np.float64)
  rng = np.random.default_rng(seed)
  sd = np.sqrt(squares / rng.chisquare(free, (len(draws), 1)))
  noise = np.clip(sd * rng.normal(size=draws.shape), -WIDEST, WIDEST)
  starts = [(law.b, law.c / y.min()), (0.2, 0.0)]
  samples = [dataclasses.astuple(fit(x, row, starts)) for row in draws * np.exp(noise)]
  low, high = np.percentile(samples, PERCENTILES, axis=0) if samples else np.full((2, 3), np.nan)
  return Power(*map(float, low)), Power(*map(float, high))


def front(cost: Sequence[float] | np.ndarray, loss: Sequence[float] | np.ndarray) -> Int[np.ndarray, " envelope"]:
  """Indices of the lower envelope, in the order of cost: points with a lower loss than all that cost no more."""
  order = sorted(range(len(cost)), key=lambda i: (cost[i], loss[i]))
  envelope: list[int] = []
  for i in order:
    if not envelope or loss[i] < loss[envelope[-1]]:
      envelope.append(i)
  return np.array(envelope, int)
