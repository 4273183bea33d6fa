"""The loss against float64 loops over windows, channels, patches and steps, from raw days to one number."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.model import buffer_sizes, loss, lsm2
from aim.model.lsm2 import Tower
from aim.model.masking import TokenSet, sorted_token_set
from tests import tiny

BINARY = np.array([False, True, False])
ARCHITECTURE = tiny.architecture(3, 6, 4, Tower(8, 16, 2, 1), Tower(8, 16, 2, 1))
TEXTBOOK = buffer_sizes.textbook(18, 0, "all")


def days(seed: int, observed_rate: float, windows: int = 3):
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(windows, 24, 3)).astype(np.float32)
  z[:, :, BINARY] = z[:, :, BINARY] > 0
  observed = rng.random(z.shape) < observed_rate
  hidden = rng.random((windows, 18, 4)) < rng.choice([0.2, 0.8])
  hidden |= rng.random((windows, 18, 1)) < 0.3  # whole tokens too
  return z, observed, hidden, rng.random((windows, 18)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def sort(share, z, observed, hidden, shuffle) -> TokenSet:
  return sorted_token_set(tiny.masking((1, 1, 1, 1), min_observed_share=share), z, observed, 4, hidden, shuffle)


@pytest.fixture(scope="module")
def predicted_error():
  """tokens -> (prediction, sum of errors, number of scored values, gradients of the sum)."""
  graph, params = lsm2.split(lsm2.Lsm2(ARCHITECTURE, nnx.Rngs(0)))

  def error(params, tokens):
    network = lsm2.merge(graph, params)
    prediction = loss.forward(network, tokens, TEXTBOOK, TEXTBOOK.target_buffer(tokens))
    total, count = loss.token_error(network, tokens, jnp.asarray(BINARY), TEXTBOOK)
    return total, (prediction, count)

  @jax.jit
  def outputs(params, tokens):
    (total, (prediction, count)), grads = jax.value_and_grad(error, has_aux=True)(params, tokens)
    return prediction, total, count, grads

  return functools.partial(outputs, params)


def reference(prediction, order, z, observed, hidden, share: float) -> tuple[float, int]:
  """Sum of errors and number of scored values; takes only prediction and order from the program."""
  least = max(1, math.ceil(share * 4))
  total, count = 0.0, 0
  for i in range(len(z)):
    place = {n: k for k, n in enumerate(order[i].tolist())}
    seen = {(n, p): bool(observed[i, n % 6 * 4 + p, n // 6]) for n in range(18) for p in range(4)}
    left = {(n, p): seen[n, p] and not hidden[i, n, p] for n, p in seen}
    inherited = [n for n in range(18) if sum(seen[n, p] for p in range(4)) < least]
    visible = [n for n in range(18) if n not in inherited and sum(left[n, p] for p in range(4)) >= least]
    if not visible:
      visible = [n for n in range(18) if n not in inherited][:1]
    for n, p in seen:
      if n in inherited or not seen[n, p] or (n in visible and left[n, p]):
        continue
      x = float(prediction[i, place[n], p])
      y = float(z[i, n % 6 * 4 + p, n // 6])
      total += math.log1p(math.exp(-abs(x))) + max(x, 0) - x * y if BINARY[n // 6] else (x - y) ** 2
      count += 1
  return total, count


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), rate=st.sampled_from([0.4, 0.9, 1.0]), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_loss_is_the_reference(predicted_error, seed, rate, share):
  z, observed, hidden, shuffle = days(seed, rate)
  tokens = sort(share, *map(jnp.asarray, (z, observed, hidden, shuffle)))
  prediction, total, count, _ = predicted_error(tokens)
  expected, steps = reference(np.asarray(prediction), np.asarray(tokens.order), z, observed, hidden, share)
  assert int(count) == steps
  assert float(total) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_errors_by_hand():
  prediction = jnp.array([[[1.0, 5.0], [0.0, 300.0]]])
  values = jnp.array([[[3.0, 0.0], [1.0, 0.0]]])
  target = jnp.array([[[True, False], [True, True]]])
  total, count = loss.reconstruction_error(prediction, values, target, jnp.array([[[False], [True]]]))
  # (1 - 3)^2; not a target; -log(1/2); a logit of 300 against 0.
  assert float(total) == pytest.approx(4 + math.log(2) + 300)
  assert int(count) == 3


def test_batches_add_up(predicted_error):
  z, observed, hidden, shuffle = days(3, 0.9)
  tokens = sort(0.0, *map(jnp.asarray, (z, observed, hidden, shuffle)))
  _, total, count, _ = predicted_error(tokens)
  parts = [predicted_error(jax.tree.map(lambda x, i=i: x[jnp.array([i] * 3)], tokens)) for i in range(3)]
  assert float(total) == pytest.approx(sum(float(part[1]) for part in parts) / 3, rel=1e-6)
  assert int(count) == sum(int(part[2]) for part in parts) / 3


@pytest.mark.parametrize("case", ["nothing observed", "nothing hidden"])
def test_a_batch_without_targets_gives_zero_and_finite_gradients(predicted_error, case):
  z, observed, hidden, shuffle = days(4, 0.9)
  observed, hidden = (observed & False, hidden) if case == "nothing observed" else (observed, hidden & False)
  tokens = sort(0.0, *map(jnp.asarray, (z, observed, hidden, shuffle)))
  _, total, count, grads = predicted_error(tokens)
  assert float(total) == 0 and float(count) == 0
  assert all((leaf == 0).all() for leaf in grads.values())


def test_only_targets_are_scored(predicted_error):
  """Loss and gradient are the same to the bit whatever the values that are neither visible nor targets."""
  z, observed, hidden, shuffle = days(5, 0.7)
  tokens = sort(0.5, *map(jnp.asarray, (z, observed, hidden, shuffle)))
  silent = ~np.asarray(tokens.visible | tokens.target)
  inherited = silent & (np.asarray(tokens.values) != 0)
  assert inherited.any(), "no observed value in an inherited-missing token, so nothing is tested"
  dirty = tokens._replace(values=jnp.asarray(np.where(silent, np.float32(1e15), tokens.values)))
  _, total, count, grads = predicted_error(tokens)
  _, other_total, other_count, other_grads = predicted_error(dirty)
  assert (float(total), float(count)) == (float(other_total), float(other_count))
  for name, leaf in grads.items():
    np.testing.assert_array_equal(leaf, other_grads[name])
