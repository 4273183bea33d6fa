"""Floating-point operations of a step, by hand, and what a device could do: the two halves of an MFU."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

from aim.model import Architecture, Tower

# Dense bf16 peak of one device in FLOP/s, by the vendors' data sheets.
PEAK = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5e": 197e12,
  "TPU v5": 459e12,
  "TPU v5p": 459e12,
  "TPU v6 lite": 918e12,
  "TPU v6e": 918e12,
  "NVIDIA A100": 312e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H200": 989e12,
}


def tower_flops(tower: Tower, tokens: float, keys: float) -> float:
  """Multiply-adds counted as 2: projections and MLP per token, and scores and sums over `keys` per token."""
  per_token = 2 * (4 * tower.width**2 + 2 * tower.width * tower.mlp) + 4 * keys * tower.width
  return tower.layers * tokens * per_token


def step_flops(a: Architecture, windows: float, encoded: float, decoded: float) -> float:
  """Forward and backward (3 x forward) of `windows` windows with that many encoder and decoder tokens each."""
  inputs = a.patch * (2 if a.observed_flags else 1)
  forward = tower_flops(a.encoder, encoded, encoded) + tower_flops(a.decoder, decoded, decoded)
  forward += 2 * encoded * (inputs * a.encoder.width + a.encoder.width * a.decoder.width)
  forward += 2 * decoded * a.decoder.width * a.patch
  return 3 * windows * forward


def peak_flops() -> float | None:
  """Peak of all devices together in FLOP/s; None where the data sheet is not known (a CPU)."""
  kind = jax.devices()[0].device_kind
  known = [name for name in PEAK if kind.startswith(name)]
  return PEAK[max(known, key=len)] * jax.device_count() if known else None


def measured_flops() -> float:
  """What a plain float32 matrix product of a transformer's shape reaches here, in FLOP/s; takes about 0.1 s."""
  x, w = jnp.ones((2048, 512)), jnp.ones((512, 512))
  product = jax.jit(lambda x, w: x @ w)
  product(x, w).block_until_ready()
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    product(x, w).block_until_ready()
    seconds.append(time.perf_counter() - start)
  return 2 * 2048 * 512 * 512 / float(np.median(seconds))
