"""Lines, cubics and local means against slow versions, channel by channel and step by step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from aim.model import interpolation


def days(steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Walks [3, steps, 4] and what is known of them: most, little, one step, nothing."""
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(3, steps, 4)).cumsum(axis=1).astype(np.float32)
  known = rng.random(z.shape) < np.array([0.7, 0.1, 0.0, 0.0])
  known[:, steps // 3, 2] = True
  return z, known


def called(function: Callable[..., jax.Array], z: np.ndarray, known: np.ndarray, *arguments: float) -> np.ndarray:
  """The function of z, in which what is not known is 99."""
  program = jax.jit(lambda z, known: function(z, known, *arguments))
  return np.asarray(program(jnp.where(known, z, 99.0), jnp.asarray(known)))


def lines(z: np.ndarray, known: np.ndarray) -> np.ndarray:
  return called(lambda z, known: interpolation.line(z, known).value, z, known)


def test_the_cubic_is_a_hermite_spline_with_catmull_rom_slopes():
  z, known = days(48)
  ours, line = called(interpolation.cubic, z, known), lines(z, known)
  for day, channel in np.ndindex(3, 4):
    t = np.flatnonzero(known[day, :, channel])
    y = z[day, t, channel].astype(np.float64)
    theirs = line[day, :, channel].astype(np.float64)
    for i in range(len(t) - 1):
      rise = (y[i + 1] - y[i]) / (t[i + 1] - t[i])
      first = (y[i + 1] - y[i - 1]) / (t[i + 1] - t[i - 1]) if i else rise
      last = (y[i + 2] - y[i]) / (t[i + 2] - t[i]) if i + 2 < len(t) else rise
      inside = np.arange(t[i], t[i + 1] + 1)
      theirs[inside] = CubicHermiteSpline(t[i : i + 2], y[i : i + 2], [first, last])(inside)
    np.testing.assert_allclose(ours[day, :, channel], theirs, atol=1e-5)


def test_the_cubic_is_exact_on_a_parabola_with_even_gaps():
  t = np.arange(60, dtype=np.float32)
  z = (0.01 * (t - 25) ** 2)[None, :, None]
  known = np.zeros(z.shape, bool)
  known[:, ::6] = True
  ours, line = called(interpolation.cubic, z, known), lines(z, known)
  inner = slice(6, 49)  # the first and the last gap have neighbours on one side only
  np.testing.assert_allclose(ours[:, inner], z[:, inner], atol=1e-4)
  assert np.abs(line - z)[:, inner].max() > 0.08


@pytest.mark.parametrize(("steps", "minutes"), [(48, 30), (288, 10), (1440, 10)])
def test_local_means_weigh_by_minutes(steps, minutes):
  z, known = days(steps)
  ours = called(interpolation.local_mean, z, known, minutes)
  clock = np.arange(steps) * 1440 / steps
  for day, channel, step in [(0, 0, 0), (1, 0, steps // 2), (2, 1, steps - 1), (0, 1, 7), (1, 2, 5), (2, 3, 9)]:
    weight = known[day, :, channel] / (1 + ((clock - clock[step]) / minutes) ** 2)
    mean = (weight * z[day, :, channel]).sum() / weight.sum() if weight.sum() else 0
    assert ours[day, step, channel] == pytest.approx(mean, abs=1e-4)


def test_local_means_do_not_underflow_at_the_far_end_of_a_day():
  z = np.full((1, 1440, 1), 2.0, np.float32)
  known = np.zeros(z.shape, bool)
  known[0, 0] = True
  np.testing.assert_allclose(called(interpolation.local_mean, z, known, 1), z, rtol=1e-6)
