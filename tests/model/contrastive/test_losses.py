"""The losses of SimCLR, DINO and MSN, computed by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.model.contrastive.dino import balanced
from aim.model.contrastive.simclr import Simclr
from aim.model.contrastive.views import Crop
from tests.model.contrastive.test_views import METHODS


def softmax(x):
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def vectors(*shape, seed=0):
  x = np.random.default_rng(seed).normal(size=shape)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def f32(x):
  return jnp.asarray(x, jnp.float32)


@settings(max_examples=3)
@given(b=st.integers(2, 3), temperature=st.sampled_from([0.1, 0.5]))
def test_simclr_by_hand(b, temperature):
  x = vectors(b, 2, 8)
  flat = [(i, v) for i in range(b) for v in range(2)]
  total = 0.0
  for i, v in flat:
    others = {k: np.exp(x[i, v] @ x[k] / temperature) for k in flat if k != (i, v)}
    total -= np.log(others[i, 1 - v] / sum(others.values()))
  nothing = jnp.zeros((0, 8))
  loss = Simclr((Crop(2, 4),), temperature).loss((f32(x),), nothing, (), nothing)
  assert float(loss) == pytest.approx(total / (2 * b), rel=1e-5)


def test_dino_by_hand():
  large, small, teacher = vectors(4, 2, 8), vectors(4, 3, 8, seed=1), vectors(4, 2, 8, seed=2)
  ours, theirs = vectors(16, 8, seed=3), vectors(16, 8, seed=4)
  q = np.exp(teacher @ theirs.T / 0.04)
  for _ in range(3):
    q /= q.sum((0, 1), keepdims=True)
    q /= q.sum(-1, keepdims=True)
  p = softmax(np.concatenate([large, small], 1) @ ours.T / 0.1)
  errors = [-(q[:, w] * np.log(p[:, v])).sum(-1).mean() for w in range(2) for v in range(5) if v != w]
  loss = METHODS["dino"].loss((f32(large), f32(small)), f32(ours), (f32(teacher),), f32(theirs))
  assert float(loss) == pytest.approx(np.mean(errors), rel=1e-4)


def test_balancing_uses_all_prototypes_equally():
  logits = f32(np.random.default_rng(0).normal(size=(64, 2, 8)) + 5 * np.eye(8)[0])
  shares = np.asarray(balanced(logits, rounds=50))
  np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-4)
  np.testing.assert_allclose(shares.mean((0, 1)), 1 / 8, rtol=1e-2)


def test_msn_by_hand():
  masked, small, teacher = vectors(4, 1, 8), vectors(4, 2, 8, seed=1), vectors(4, 1, 8, seed=2)
  ours = vectors(16, 8, seed=3)
  p = softmax(np.concatenate([masked, small], 1) @ ours.T / 0.1)
  q = softmax(teacher @ ours.T / 0.1) ** 4  # sharpened from 0.1 to 0.025
  q /= q.sum(-1, keepdims=True)
  mean = p.mean((0, 1))
  expected = -(q * np.log(p)).sum(-1).mean() + (mean * np.log(mean)).sum()
  loss = METHODS["msn"].loss((f32(masked), f32(small)), f32(ours), (f32(teacher),), f32(ours))
  assert float(loss) == pytest.approx(expected, rel=1e-4)
