"""From days to tokens and back: normalise, and cut into patches.

Token n = c * T + t is channel c in the t-th patch of the day (channel-major), with T = steps / patch. A patch of
several channels is a patch of one *folded* channel: see fold().
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float

from aim.model import interpolation
from data_pipelines.channels.zeros import without_zeros
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Schema

Arrays = TypeVar("Arrays", jax.Array, np.ndarray)


@dataclasses.dataclass(frozen=True)
class Scale:
  """Per-channel z-scoring with statistics of the observed values in the training split (AIM, section 1).

  Attributes:
    mean, std: float32 [channels]; 0 and 1 for binary channels, which stay 0/1.
    clip: float32 [channels], bound on |z|; infinite where there is none.
    binary: bool [channels].
    reference_mean, reference_std: mean and SD of every channel, binary ones too; z-scored errors are divided by the SD.
    low, high: smallest and largest observed training value, in physical units.
    zero_is_missing: bool [channels], whether 0 stands for a missing value.
  """

  mean: np.ndarray
  std: np.ndarray
  clip: np.ndarray
  binary: np.ndarray
  reference_mean: np.ndarray
  reference_std: np.ndarray
  low: np.ndarray
  high: np.ndarray
  zero_is_missing: np.ndarray

  @classmethod
  def from_statistics(
    cls,
    schema: Schema,
    statistics: Mapping[str, npt.ArrayLike],
    zero_is_missing: Collection[str] = (),
    clips: bool = True,
  ) -> Scale:
    """A scale from a schema and statistics.

    Args:
      schema: the channels.
      statistics: `mean`, `std`, `min` and `max`, [channels] each.
      zero_is_missing: names of channels in which 0 stands for a missing value.
      clips: whether z-scores are cut off at the channels' `clip`.

    Raises:
      SchemaError: the schema has no channel of such a name.
    """
    if unknown := [name for name in zero_is_missing if name not in schema.names]:
      known = ", ".join(schema.names)
      raise SchemaError(f"config.data.zero_is_missing names channel {unknown[0]!r}, expected some of {known}")
    binary = schema.binary
    mean, std, low, high = (np.asarray(statistics[key], np.float32) for key in ("mean", "std", "min", "max"))
    clip = np.where(binary, np.inf, schema.clips if clips else np.inf).astype(np.float32)
    return cls(
      np.where(binary, 0, mean).astype(np.float32),
      np.where(binary, 1, std).astype(np.float32),
      clip,
      binary,
      mean,
      std,
      low,
      high,
      np.array([name in zero_is_missing for name in schema.names]),
    )

  @property
  def training_mean(self) -> np.ndarray:
    """float32 [channels], the training mean on the model's scale: 0, or the share of ones in a binary channel."""
    return np.where(self.binary, self.reference_mean, 0).astype(np.float32)

  def normalise(
    self, values: Float[Array | np.ndarray, "... s c"]
  ) -> tuple[Float[Array, "... s c"], Bool[Array, "... s c"]]:
    """z-scores, 0 where missing, and a bool array of where a value was observed."""
    values = without_zeros(values, self.zero_is_missing)
    observed = ~jnp.isnan(values)
    z = jnp.clip((values - self.mean) / self.std, -self.clip, self.clip)
    return jnp.where(observed, z, 0.0), observed

  def physical(self, z: Arrays) -> Arrays:
    """z-scores [..., s, c] in physical units, within the range seen in training; probabilities as 0 or 1.

    NaN and Inf stay what they are.
    """
    xp = z.__array_namespace__()
    continuous = xp.clip(z * self.std + self.mean, self.low, self.high)
    known = xp.where(self.binary, z >= 0.5, continuous)
    return xp.where(xp.isfinite(z), known, z).astype(np.float32)


def normalised_days(
  scale: Scale, values: Float[Array | np.ndarray, "b s c"], impute: str
) -> tuple[Float[Array, "b s c"], Bool[Array, "b s c"]]:
  """Normalised days and what counts as observed, under config.data.impute.

  "none" is normalise(). "linear", as LSM-1 is trained, fills every hole with a straight line in time
  (interpolation.fill_linearly) and counts it as observed: nothing is inherited-missing, all that is hidden is scored.
  """
  z, observed = scale.normalise(values)
  if impute == "none":
    return z, observed
  return interpolation.fill_linearly(z, observed, scale.training_mean), jnp.ones_like(observed)


def fold(x: Arrays, group: int) -> Arrays:
  """Turns [b, s, c] into [b, f, groups]: `group` channels become one channel of f = s * group values, step by step.

  Masks, patches and tokens can then be made as for single channels. The last group is filled up with 0 (False).
  """
  if group == 1:
    return x
  b, s, c = x.shape
  groups = -(-c // group)
  x = x.__array_namespace__().pad(x, ((0, 0), (0, 0), (0, groups * group - c)))
  return x.reshape(b, s, groups, group).swapaxes(2, 3).reshape(b, s * group, groups)


def unfold(x: Arrays, channels: int, group: int) -> Arrays:
  """The inverse of fold() for this number of channels."""
  if group == 1:
    return x
  b, f, groups = x.shape
  return x.reshape(b, f // group, group, groups).swapaxes(2, 3).reshape(b, f // group, groups * group)[..., :channels]


def patchify(x: Arrays, patch: int, group: int = 1) -> Arrays:
  """Cuts [b, s, c] into [b, groups * s / patch, patch * group], channel-major. `patch` is in steps."""
  x, patch = fold(x, group), patch * group
  b, s, c = x.shape
  return x.reshape(b, s // patch, patch, c).transpose(0, 3, 1, 2).reshape(b, c * (s // patch), patch)


def unpatchify(x: Arrays, channels: int, group: int = 1) -> Arrays:
  """The inverse of patchify(): [b, n, p] to [b, s, c]."""
  b, n, patch = x.shape
  c = -(-channels // group)
  x = x.reshape(b, c, n // c, patch).transpose(0, 2, 3, 1).reshape(b, (n // c) * patch, c)
  return unfold(x, channels, group)
