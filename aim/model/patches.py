"""Day windows as tokens: normalise, cut into patches, and back.

Token n = c * T + t stands for channel c in the t-th patch of the day (channel-major), T = steps / patch. A patch of
several channels is a patch of one *folded* channel: see fold().
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Shaped

from aim.model import interpolation
from data_pipelines.schema import Schema


@dataclasses.dataclass(frozen=True)
class Scale:
  """Per-channel z-scoring with statistics of the training split's observed minutes (AIM, section 1).

  Attributes:
    mean, std: float32 [channels]; 0 and 1 for binary channels, which stay 0/1.
    clip: float32 [channels], bound on |z|.
    binary: bool [channels].
    reference_mean, reference_std: the statistics of all channels, binary ones too: what a z-scored error divides by.
    low, high: smallest and largest observed training value, in physical units.
  """

  mean: np.ndarray
  std: np.ndarray
  clip: np.ndarray
  binary: np.ndarray
  reference_mean: np.ndarray
  reference_std: np.ndarray
  low: np.ndarray
  high: np.ndarray

  @classmethod
  def from_statistics(cls, schema: Schema, statistics: Mapping[str, npt.ArrayLike]) -> Scale:
    """From a schema and the statistics `mean`, `std`, `min`, `max` [channels]."""
    binary = schema.binary
    mean, std, low, high = (np.asarray(statistics[key], np.float32) for key in ("mean", "std", "min", "max"))
    clip = np.where(binary, np.inf, schema.clips).astype(np.float32)
    return cls(
      np.where(binary, 0, mean).astype(np.float32),
      np.where(binary, 1, std).astype(np.float32),
      clip,
      binary,
      mean,
      std,
      low,
      high,
    )

  @property
  def training_mean(self) -> np.ndarray:
    """float32 [channels], the training mean on the model's scale: 0, or a binary channel's share of ones."""
    return np.where(self.binary, self.reference_mean, 0).astype(np.float32)

  def normalise(
    self, values: Float[Array | np.ndarray, "... s c"]
  ) -> tuple[Float[Array, "... s c"], Bool[Array, "... s c"]]:
    """Returns z-scores with 0 at missing minutes, and where a number was observed."""
    observed = ~jnp.isnan(values)
    z = jnp.clip((values - self.mean) / self.std, -self.clip, self.clip)
    return jnp.where(observed, z, 0.0), observed


def normalised_days(
  scale: Scale, values: Float[Array | np.ndarray, "b s c"], impute: str
) -> tuple[Float[Array, "b s c"], Bool[Array, "b s c"]]:
  """Normalised days and what counts as observed, for config.data.impute.

  "none": as normalise(). "linear", as LSM-1 is trained: every hole is on a straight line in time (interpolation.fill_linearly)
  and counts as observed, so that nothing is inherited-missing and the loss is on all that is hidden.
  """
  z, observed = scale.normalise(values)
  if impute == "none":
    return z, observed
  return interpolation.fill_linearly(z, observed, scale.training_mean), jnp.ones_like(observed)


def fold(x: Shaped[Array, "b s c"], group: int) -> Shaped[Array, "b f groups"]:
  """Groups of `group` channels as one channel each, f = s * group: step by step the cells of the group's channels.

  Masks, patches and tokens then are those of single channels. The last group is filled up with 0 (False).
  """
  if group == 1:
    return x
  b, s, c = x.shape
  groups = -(-c // group)
  x = jnp.pad(x, ((0, 0), (0, 0), (0, groups * group - c)))
  return x.reshape(b, s, groups, group).swapaxes(2, 3).reshape(b, s * group, groups)


def unfold(x: Shaped[Array, "b f groups"], channels: int, group: int) -> Shaped[Array, "b s c"]:
  """The inverse of fold, for so many channels."""
  if group == 1:
    return x
  b, f, groups = x.shape
  return x.reshape(b, f // group, group, groups).swapaxes(2, 3).reshape(b, f // group, groups * group)[..., :channels]


def patchify(x: Shaped[Array, "b s c"], patch: int, group: int = 1) -> Shaped[Array, "b n p"]:
  """[b, s, c] -> [b, groups * s / patch, patch * group], channel-major; `patch` counts steps."""
  x, patch = fold(x, group), patch * group
  b, s, c = x.shape
  return x.reshape(b, s // patch, patch, c).transpose(0, 3, 1, 2).reshape(b, c * (s // patch), patch)


def unpatchify(x: Shaped[Array, "b n p"], channels: int, group: int = 1) -> Shaped[Array, "b s c"]:
  """The inverse of patchify."""
  b, n, patch = x.shape
  c = -(-channels // group)
  x = x.reshape(b, c, n // c, patch).transpose(0, 2, 3, 1).reshape(b, (n // c) * patch, c)
  return unfold(x, channels, group)
