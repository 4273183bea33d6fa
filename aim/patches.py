"""Day windows as tokens: normalise, cut into patches, and back.

Token n = c * T + t stands for channel c in the t-th patch of the day (channel-major), T = steps / patch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float

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
  def of(cls, schema: Schema, statistics: Mapping[str, npt.ArrayLike]) -> Scale:
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

  def normalise(
    self, values: Float[Array | np.ndarray, "... s c"]
  ) -> tuple[Float[Array, "... s c"], Bool[Array, "... s c"]]:
    """Returns z-scores with 0 at missing minutes, and where a number was observed."""
    observed = ~jnp.isnan(values)
    z = jnp.clip((values - self.mean) / self.std, -self.clip, self.clip)
    return jnp.where(observed, z, 0.0), observed


def patchify(x: Array, patch: int) -> Array:
  """[b, s, c] -> [b, c * s / patch, patch], channel-major."""
  b, s, c = x.shape
  return x.reshape(b, s // patch, patch, c).transpose(0, 3, 1, 2).reshape(b, c * (s // patch), patch)


def unpatchify(x: Array, channels: int) -> Array:
  """[b, n, patch] -> [b, s, c], the inverse of patchify."""
  b, n, patch = x.shape
  return (
    x.reshape(b, channels, n // channels, patch).transpose(0, 2, 3, 1).reshape(b, (n // channels) * patch, channels)
  )
