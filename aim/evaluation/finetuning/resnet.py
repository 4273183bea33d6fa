"""ResNet-1D: the convolutional network that is trained from scratch for comparison (AIM, "supervised baselines").

A pre-activation ResNet-18 (He et al. 2016, "Identity mappings in deep residual networks") with one-dimensional
convolutions along the day. LayerNorm over channels replaces BatchNorm: without running statistics the network stays a
pure function, and its output for a day does not depend on the batch. Notation: b days, s steps, c channels.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from aim.model.layers import LayerNorm

STAGES, BLOCKS = 4, 2  # each stage halves the steps and doubles the channels


class ResidualBlock(nnx.Module):
  """x + conv(relu(norm(conv(relu(norm(x)))))), with a convolution of width 1 as the shortcut where sizes change."""

  def __init__(self, inputs: int, outputs: int, stride: int, rngs: nnx.Rngs):
    self.norm1, self.norm2 = LayerNorm(inputs), LayerNorm(outputs)
    self.conv1 = nnx.Conv(inputs, outputs, (3,), strides=stride, rngs=rngs)
    self.conv2 = nnx.Conv(outputs, outputs, (3,), rngs=rngs)
    self.shortcut = nnx.Conv(inputs, outputs, (1,), strides=stride, rngs=rngs) if inputs != outputs else None

  def __call__(self, x: Float[Array, "b s d"]) -> Float[Array, "b t e"]:
    y = self.conv1(jax.nn.relu(self.norm1(x)))
    y = self.conv2(jax.nn.relu(self.norm2(y)))
    return y + (self.shortcut(x) if self.shortcut is not None else x)


class ResNet(nnx.Module):
  """Maps days to sixteen times fewer steps with 8 * width features each."""

  def __init__(self, channels: int, width: int, rngs: nnx.Rngs):
    # Two inputs per channel: its value, and whether that was observed.
    self.stem = nnx.Conv(2 * channels, width, (7,), strides=2, rngs=rngs)
    widths = [width * 2**stage for stage in range(STAGES)]
    blocks, inputs = [], width
    for stage, outputs in enumerate(widths):
      for i in range(BLOCKS):
        blocks.append(ResidualBlock(inputs, outputs, 2 if stage and i == 0 else 1, rngs))
        inputs = outputs
    self.blocks = nnx.List(blocks)
    self.norm = LayerNorm(widths[-1])

  def __call__(self, z: Float[Array, "b s c"], observed: Bool[Array, "b s c"]) -> Float[Array, "b t f"]:
    """The features of each remaining step; z holds z-scores, 0 where missing."""
    x = self.stem(jnp.concatenate([z, observed.astype(z.dtype)], axis=-1))
    for block in self.blocks:
      x = block(x)
    return jax.nn.relu(self.norm(x))


def features(width: int) -> int:
  """Features per step of a ResNet of this width."""
  return width * 2 ** (STAGES - 1)


@functools.cache
def parameters(channels: int, width: int) -> int:
  """Number of parameters of a ResNet of this width."""
  shapes = nnx.eval_shape(lambda: ResNet(channels, width, nnx.Rngs(0)))
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(shapes, nnx.Param)))


def width_of(channels: int, n_parameters: int) -> int:
  """The width whose number of parameters is nearest to `n_parameters`."""
  low, high = 1, 2
  while parameters(channels, high) < n_parameters:
    low, high = high, 2 * high
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (middle, high) if parameters(channels, middle) < n_parameters else (low, middle)
  return min((low, high), key=lambda width: abs(parameters(channels, width) - n_parameters))
