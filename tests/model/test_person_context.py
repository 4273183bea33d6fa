"""The evidence of a person's other days and what the skip makes of it, against float64 loops; what may not matter."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aim.model import buffer_sizes, loss, lsm2, person_context
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Architecture, Tower
from aim.model.masking import evaluation_token_set, sorted_token_set
from aim.model.patches import Scale
from aim.model.person_context import Context, context_evidence, with_context
from data_pipelines.schema import Channel, Schema
from tests import tiny

BINARY = (False, True, False)
STEPS, PATCH, LENGTH = 32, 4, 8
PLAIN = tiny.architecture(3, LENGTH, PATCH, Tower(8, 8, 1, 1), Tower(8, 8, 1, 1), binary=BINARY)
SMOOTH = dataclasses.replace(PLAIN, interpolation_skip=True, skip_evidence="smooth", context_days=7)
AFTER = dataclasses.replace(SMOOTH, evidence_embedding="after")


def network(a: Architecture) -> lsm2.Lsm2:
  """With parameters moved from their initial values."""
  rng = np.random.default_rng(0)
  graph, shapes = lsm2.abstract(a)
  params = {name: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32) for name, leaf in sorted(shapes.items())}
  return lsm2.merge(graph, params)


def days(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Four windows: z, observed, and mean and number of other days; the last channel has none in the last window."""
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(4, STEPS, 3)).astype(np.float32)
  z[:, :, 1] = z[:, :, 1] > 0
  observed = rng.random(z.shape) < 0.6
  observed[1, :, 0] = False
  mean = rng.normal(size=z.shape).astype(np.float32)
  mean[:, :, 1] = rng.random(mean[:, :, 1].shape)
  number = rng.integers(0, 8, z.shape)
  number[3, :, 2] = 0
  return z, observed, np.where(number > 0, mean, 0).astype(np.float32), number.astype(np.uint8)


def context(mean: np.ndarray, number: np.ndarray) -> Context:
  return Context(jnp.asarray(mean), jnp.asarray(number))


def logit(p: float) -> float:
  p = min(max(p, 0.02), 0.98)
  return math.log(p / (1 - p))


def slow_evidence(z, visible, mean, number) -> np.ndarray:
  """context_evidence of one window, step by step."""
  out = np.zeros((*z.shape, person_context.FEATURES))
  minutes = 1440 / len(z)
  kernel = lambda t, s: (1 + (minutes * (t - s) / 60) ** 2) ** -2
  for c in range(z.shape[1]):
    weights = np.array([[kernel(t, s) for s in range(len(z))] for t in range(len(z))])
    known = number[:, c].sum() > 0
    units = logit if BINARY[c] else float
    times = np.flatnonzero(visible[:, c]) if known else []
    usual = (weights @ (number[:, c] * mean[:, c])) / (weights @ number[:, c]) if known else np.zeros(len(z))
    away = [z[t, c] - usual[t] for t in times]
    for t in range(len(z)):
      distances = [max(abs(t - s), 0.1) * minutes for s in (*[s for s in times if s <= t][-1:],
                                                            *[s for s in times if s >= t][:1])]  # fmt: skip
      distance = 1 / sum(1 / d for d in distances) if distances else math.inf
      out[t, c, 5] = math.log(min(max(distance / 30, 0.01), 48))
      out[t, c, 1] = math.log(weights[t] @ number[:, c] / weights[t].sum()) if known else -math.inf
      if known:
        out[t, c, 0] = units(usual[t])
        out[t, c, 3] = units(mean[t, c] if number[t, c] else usual[t])
      if len(times):
        out[t, c, 2] = units(usual[t] + np.interp(t, times, away)) - units(usual[t])
        out[t, c, 4] = units(usual[t] + np.mean(away)) - units(usual[t])
  return out


def test_evidence_is_the_slow_one():
  z, visible, mean, number = days()
  read = jnp.where(jnp.asarray(visible), jnp.asarray(z), 99.0)
  ours = np.asarray(jax.jit(context_evidence)(read, jnp.asarray(visible), jnp.array(BINARY), context(mean, number)))
  for window in range(4):
    theirs = slow_evidence(*(x[window].astype(np.float64) for x in (z, visible, mean, number)))
    np.testing.assert_allclose(ours[window], theirs, rtol=2e-4, atol=2e-4)


def test_the_mixture_by_hand():
  """One value of one channel: 7 days, usual 1, its own mean 2, today 0.5 above that, 0.2 on the whole, at 30 min."""
  evidence = jnp.array([1.0, math.log(7.0), 0.5, 2.0, 0.2, 0.0]).reshape(1, 1, 1, 6)
  curves = np.zeros((1, 1, 1, person_context.CURVES, len(person_context.KNOTS)), np.float32)
  curves[..., 0, :] = (0.25 - np.array(person_context.START)) / 4  # 4 is CURVE_SCALE
  curves[..., 3, :] = 0.1 / 4
  ours = with_context(
    jnp.full((1, 1, 1), 10.0), jnp.full((1, 1, 1), 3.0), jnp.array([[[0.5, 0.4, 0.3]]]), evidence, jnp.asarray(curves)
  )
  sigmoid = lambda x: 1 / (1 + math.exp(-x))
  expected = 1 + 0.1 * (2 - 1) + 0.5 + sigmoid(0 - 0.3) * (sigmoid(0.4) * 0.2 - 0.5)
  trust = sigmoid(0.25 + 0.5 + math.log(7))
  assert float(ours.reshape(())) == pytest.approx(10 + trust * (expected + 3 - 10), rel=1e-5)


def predict(a: Architecture, buffers: BufferSizes, hidden=None):
  """(z, observed, context) -> predictions at the targets, on the grid of the tokens: 0 elsewhere."""
  model, masking = network(a), tiny.masking((1.0,) * 4)

  @jax.jit
  def run(z, observed, context):
    shuffle = jnp.asarray(np.random.default_rng(3).random((4, a.tokens)), jnp.float32)
    tokens = sorted_token_set(masking, z, observed, PATCH, hidden_tokens() if hidden is None else hidden, shuffle)
    tokens = tokens._replace(context=context)
    parts = loss.predictions(model, tokens, jnp.array(BINARY), buffers)
    return jnp.where(parts[2], parts[0], 0.0), loss.reconstruction_error(*parts)

  return run


def hidden_tokens() -> jnp.ndarray:
  rng = np.random.default_rng(2)
  return jnp.asarray(np.repeat(rng.random((4, 24, 1)) < 0.5, PATCH, axis=2) | (rng.random((4, 24, PATCH)) < 0.1))


@pytest.mark.slow
@pytest.mark.parametrize("a", [SMOOTH, AFTER], ids=["before", "after"])
def test_packed_trimmed_and_textbook_steps_are_the_same(a):
  z, observed, mean, number = days()
  arguments = (jnp.asarray(z), jnp.asarray(observed), context(mean, number))
  textbook = predict(a, buffer_sizes.textbook(24, 0, "all"))(*arguments)[1]
  trimmed = predict(a, BufferSizes(0, 20, 24, 20, 24, 24, "all"))(*arguments)[1]
  packed = predict(a, BufferSizes(2, 40, 48, 40, 24, 24, "all"))(*arguments)[1]
  for error, scored in (trimmed, packed):
    assert float(scored) == float(textbook[1]) > 100
    np.testing.assert_allclose(error, textbook[0], rtol=1e-5)


@pytest.mark.parametrize("a", [SMOOTH, AFTER], ids=["before", "after"])
def test_without_other_days_the_skip_is_as_it_was(a):
  """The weight of the context is exactly 0 where nothing is known, and in a model that is given none."""
  z, observed, mean, number = days()
  model = network(a)
  without = lsm2.merge(
    lsm2.abstract(dataclasses.replace(a, context_days=0))[0],
    {name: leaf for name, leaf in lsm2.split(model)[1].items() if not name.startswith("context")},
  )
  # Tokens are moved by a bias, which is there whether other days are known or not.
  bias = model.context_embedding.bias
  bias.set_value(jnp.zeros_like(bias.get_value()))
  buffers = buffer_sizes.textbook(24, 0, "all")

  @jax.jit
  def outputs(z, observed, mean, number):
    tokens = evaluation_token_set(tiny.masking((1.0,) * 4), z, observed, PATCH, ~observed)
    nothing = Context.none(mean)
    forward = lambda model, tokens: loss.forward(model, tokens, buffers, buffers.target_buffer(tokens))
    known = forward(model, tokens._replace(context=Context(mean, number)))
    return forward(without, tokens), forward(model, tokens), forward(model, tokens._replace(context=nothing)), known

  plain, none, empty, known = map(np.asarray, outputs(*map(jnp.asarray, (z, observed, mean, number))))
  np.testing.assert_array_equal(empty, none)
  np.testing.assert_allclose(none, plain, atol=1e-5)  # two programs
  assert (known != plain).any(axis=(1, 2)).all()


@pytest.mark.parametrize("a", [SMOOTH, AFTER], ids=["before", "after"])
def test_the_tokens_are_given_other_days(a):
  """By the embedding alone: what the heads make of them by themselves is the same in both models."""
  z, observed, mean, number = map(jnp.asarray, days())
  model, blind = network(a), network(a)
  kernel = blind.context_embedding.kernel
  kernel.set_value(jnp.zeros_like(kernel.get_value()))
  tokens = evaluation_token_set(tiny.masking((1.0,) * 4), z, observed, PATCH, ~observed)
  tokens = tokens._replace(context=Context(mean, number))
  buffers = buffer_sizes.textbook(24, 0, "all")
  forward = jax.jit(
    lambda tokens: [loss.forward(m, tokens, buffers, buffers.target_buffer(tokens)) for m in (model, blind)]
  )
  given, not_given = map(np.asarray, forward(tokens))
  assert (given != not_given).any(axis=(1, 2)).all()


def test_nothing_hidden_is_read_beside_other_days():
  """Replacing hidden values, and the means of which there are no days, changes no bit of the prediction."""
  z, observed, mean, number = days()
  run = predict(SMOOTH, buffer_sizes.textbook(24, 0, "all"), jnp.ones((4, 24, PATCH), bool).at[:, :8].set(False))
  before = run(jnp.asarray(z), jnp.asarray(observed), context(mean, number))[0]
  changed = np.where(observed, z, np.nan).astype(np.float32)
  changed[:, :, 1:] = 7  # hidden all day
  after = run(jnp.asarray(changed), jnp.asarray(observed), context(mean, number))[0]
  np.testing.assert_array_equal(after, before)
  other = run(jnp.asarray(z), jnp.asarray(observed), context(mean + (number > 0), number))[0]
  assert (other != before).any()


def test_a_fresh_model_fills_a_lost_channel_with_the_persons_usual_day():
  z, observed, mean, _ = days()
  graph, shapes = lsm2.abstract(SMOOTH)
  params = {name: jnp.zeros(leaf.shape) + (1.0 if name.endswith("scale") else 0.0) for name, leaf in shapes.items()}
  model, buffers = lsm2.merge(graph, params), buffer_sizes.textbook(24, 0, "all")
  observed[:, :, 2] = False
  flat = np.ones_like(mean)
  tokens = evaluation_token_set(
    tiny.masking((1.0,) * 4), jnp.asarray(z), jnp.asarray(observed), PATCH, jnp.asarray(~observed)
  )
  tokens = tokens._replace(context=context(flat, np.full(flat.shape, 7, np.uint8)))
  forward = jax.jit(lambda tokens: loss.forward(model, tokens, buffers, buffers.target_buffer(tokens)))
  out = np.asarray(forward(tokens))
  lost = np.asarray(tokens.order) // LENGTH == 2
  assert (out[lost] > 0.9).all() and (out[lost] < 1).all()


def test_a_profile_is_normalised_like_values():
  schema = Schema(45, (Channel("pulse", clip=2.0), Channel("steps"), Channel("asleep", kind="binary")))
  statistics = {"mean": [60, 10, 0.3], "std": [10, 5, 0.46], "min": [40, 0, 0], "max": [180, 90, 1]}
  scale = Scale.from_statistics(schema, statistics, zero_is_missing=("steps",))
  mean = np.tile(np.array([70, 20, 0.25], np.float32), (1, STEPS, 1))
  mean[0, 0], mean[0, 1] = np.nan, (200, 0, 1)
  z, number = Context.normalised(scale, jnp.asarray(mean), jnp.full(mean.shape, 3, jnp.uint8))
  np.testing.assert_allclose(z[0, 2], [1, 2, 0.25], rtol=1e-6)
  np.testing.assert_allclose(z[0, :2], [[0, 0, 0], [2, 0, 1]], rtol=1e-6)
  assert number[0, :3].tolist() == [[0, 0, 0], [3, 0, 3], [3, 3, 3]] and number.dtype == jnp.uint8
