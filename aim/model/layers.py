"""Linear layers and layer norms, written as matrix products that are fast on every platform."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from aim.runtime import devices

initializer = nnx.initializers.truncated_normal(0.02)


class Dense(nnx.Module):
  """A linear layer from [..., *inputs] to [..., *outputs]; computed in `dtype`, parameters in float32."""

  def __init__(self, inputs: int | tuple[int, ...], outputs: int | tuple[int, ...], dtype: Any, rngs: nnx.Rngs):
    self.inputs = (inputs,) if isinstance(inputs, int) else inputs
    outputs = (outputs,) if isinstance(outputs, int) else outputs
    self.dtype = dtype
    self.kernel = nnx.Param(initializer(rngs.params(), (*self.inputs, *outputs), jnp.float32))
    self.bias = nnx.Param(jnp.zeros(outputs))

  def __call__(self, x: Float[Array, "..."], part: slice = slice(None)) -> Float[Array, "..."]:
    """Applies the layer; `part` selects from the first output dimension, as q, k and v may have different inputs."""
    kernel, bias = self.kernel.get_value(), self.bias.get_value()[part]
    kernel = kernel[(slice(None),) * len(self.inputs) + (part,)]
    count, lead = math.prod(self.inputs), x.shape[: x.ndim - len(self.inputs)]
    out = affine(
      x.reshape(-1, count).astype(self.dtype), kernel.reshape(count, -1).astype(self.dtype), bias.reshape(-1)
    )
    return out.reshape(*lead, *bias.shape)


class LayerNorm(nnx.Module):
  """Layer normalisation over the last dimension, in float32, with eps 1e-5 as in public weights of this layout."""

  def __init__(self, width: int):
    self.scale = nnx.Param(jnp.ones(width))
    self.bias = nnx.Param(jnp.zeros(width))

  def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    flat = x.reshape(-1, x.shape[-1])
    return normalised(flat, self.scale.get_value(), self.bias.get_value()).reshape(x.shape)


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """The exact GELU, x * Phi(x) (Hendrycks and Gimpel 2016), computed in float32."""
  y = x.astype(jnp.float32)
  # jax.nn.gelu uses erfc, which is exact further into the tails than needed here and costs twice as much on a CPU.
  return (0.5 * y * (1 + jax.lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


# The gradients below are written by hand because XLA has no fast CPU kernel for two operations in the derivatives: sums
# over rows, and products that contract rows. Both become products that contract along rows as they lie in memory.


@jax.custom_vjp
def affine(x: Float[Array, "r k"], w: Float[Array, "k n"], b: Float[Array, " n"]) -> Float[Array, "r n"]:
  """x @ w + b in the dtype of x and w."""
  return (_dot(x, w) + b).astype(x.dtype)


def _affine_backward(saved: tuple[Array, Array], gradient: Float[Array, "r n"]) -> tuple[Array, Array, Array]:
  x, w = saved
  dx, dw = _dot(gradient, _transpose(w)), _dot(_transpose(x), gradient)
  return dx.astype(x.dtype), dw.astype(w.dtype), _sum_rows(gradient)


affine.defvjp(lambda x, w, b: (affine(x, w, b), (x, w)), _affine_backward)


@jax.custom_vjp
def normalised(x: Float[Array, "r d"], scale: Float[Array, " d"], bias: Float[Array, " d"]) -> Float[Array, "r d"]:
  """Normalises each row to mean 0 and variance 1, then scales and shifts it, in the dtype of x."""
  return _normalise(x, scale, bias)[0]


def _normalise(x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, Array, Array, Array]]:
  y = x.astype(jnp.float32)
  mean = y.mean(-1, keepdims=True)
  rate = jax.lax.rsqrt(jnp.square(y - mean).mean(-1, keepdims=True) + 1e-5)
  return ((y - mean) * rate * scale + bias).astype(x.dtype), (x, mean, rate, scale)


def _normalised_backward(saved: tuple[Array, Array, Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
  x, mean, rate, scale = saved
  gradient, unit = gradient.astype(jnp.float32), (x.astype(jnp.float32) - mean) * rate
  g = gradient * scale
  dx = rate * (g - g.mean(-1, keepdims=True) - unit * (g * unit).mean(-1, keepdims=True))
  return dx.astype(x.dtype), _sum_rows(gradient * unit), _sum_rows(gradient)


normalised.defvjp(_normalise, _normalised_backward)


def _dot(x: Float[Array, "r k"], w: Float[Array, "k n"]) -> Float[Array, "r n"]:
  # XLA's CPU compiler uses the processor's bfloat16 units only for products with a float32 result. Accelerators
  # accumulate in float32 too, but need not write it to memory.
  return jnp.dot(x, w, preferred_element_type=jnp.float32 if devices.platform() == "cpu" else None)


def _transpose(x: Float[Array, "r k"]) -> Float[Array, "k r"]:
  # Without the constraint the compiler only changes the layout and does not transpose. It has no bfloat16 product that
  # contracts these dimensions, and converts both operands to float32.
  return with_layout_constraint(x.T, Layout((0, 1))) if devices.platform() == "cpu" else x.T


def _sum_rows(x: Float[Array, "r n"]) -> Float[Array, " n"]:
  if devices.platform() == "cpu":
    return _dot(jnp.ones((1, len(x)), x.dtype), x)[0]
  return x.sum(0, dtype=jnp.float32)
