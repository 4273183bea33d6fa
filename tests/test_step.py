"""The pretraining step: trimmed equals textbook, microbatches add up, a NaN changes nothing, the optimiser's rules."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim import model
from aim.journal import Journal, TrainingError
from aim.masking import STRATEGIES, Masking, artificial_mask, sorted_tokens
from aim.metrics import MetricsWriter
from aim.model import Architecture, Tower
from aim.optimizer import decay_mask, make_optimizer, schedule
from aim.patches import Scale
from aim.step import Step, encoder_buckets
from data_pipelines.schema import Channel, Schema, UserError

CHANNELS, LENGTH, PATCH = 4, 8, 2
TOKENS = CHANNELS * LENGTH
SCHEMA = Schema(90, tuple(Channel(f"c{i}", kind="binary" if i == 1 else "continuous") for i in range(CHANNELS)))
STATISTICS = {"mean": [70.0, 0.5, 0.0, 0.0], "std": [10.0, 0.5, 1.0, 1.0], "min": [0.0] * 4, "max": [200.0] * 4}
OPTIMIZER = ml_collections.ConfigDict(
  {"learning_rate": 1e-2, "warmup_share": 0.1, "b1": 0.9, "b2": 0.95, "weight_decay": 0.1, "clip_norm": 1.0}
)

FAST = {"xla_backend_optimization_level": 0}  # compiling is what takes the time here


def only(strategy: str, **values) -> Masking:
  return Masking(weights=tuple(float(name == strategy) for name in STRATEGIES), **values)


KINDS = {
  "random": only("random"),
  "random_unit": only("random", random_unit=1),
  "temporal": only("temporal"),
  "temporal_block": only("temporal", temporal_block=3),
  "sensor": only("sensor"),
  "gaps": only("gaps", gap_steps=(1, 5)),
}
STEP = Step(
  architecture=Architecture(CHANNELS, LENGTH, PATCH, Tower(8, 16, 2, 1), Tower(8, 16, 2, 1)),
  masking=Masking(weights=(1.0, 1.0, 1.0, 1.0), gap_steps=(1, 5)),
  scale=Scale.of(SCHEMA, STATISTICS),
  optimizer=optax.sgd(1.0),
)


def days(missing: float, windows: int = 4, seed: int = 0) -> np.ndarray:
  """float32 [windows, 16, 4] in physical units, that share missing."""
  rng = np.random.default_rng(seed)
  values = rng.normal([70, 0, 0, 0], [10, 0, 1, 1], (windows, LENGTH * PATCH, CHANNELS))
  values[:, :, 1] = rng.random(values.shape[:2]) < 0.5
  values[rng.random(values.shape) < missing] = np.nan
  return values.astype(np.float32)


@functools.cache
def hidden_by_every_strategy() -> dict[str, jax.Array]:
  """bool [4, tokens, patch] of each kind, drawn in one compilation."""

  @functools.partial(jax.jit, compiler_options=FAST)
  def draw(keys):
    one = lambda masking: jax.vmap(lambda key: artificial_mask(key, masking, CHANNELS, LENGTH, PATCH))(keys)
    return {kind: one(masking) for kind, masking in KINDS.items()}

  return draw(jax.random.split(jax.random.key(0), 4))


@functools.cache
def params() -> dict[str, jax.Array]:
  """Larger than the initial ones, so that attention is far from uniform."""
  rng = np.random.default_rng(0)
  shapes = model.abstract(STEP.architecture)[1]
  return {name: jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32) for name, leaf in sorted(shapes.items())}


def gradient(encoder_tokens: int, tokens, accumulate: int = 1):
  """Sum of errors, number of scored steps, gradients of the sum."""
  return jax.tree.map(np.asarray, _gradient(encoder_tokens, accumulate, params(), tokens))


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=FAST)
def _gradient(encoder_tokens, accumulate, params, tokens):
  return dataclasses.replace(STEP, accumulate=accumulate)._gradient(encoder_tokens, params, tokens)


@functools.partial(jax.jit, static_argnums=0)
def tokens_of(share: float, values, hidden):
  z, observed = STEP.scale.normalise(values)
  n = hidden.shape[1]
  shuffle = jnp.tile(jnp.arange(n) * 7 % n / n, (len(values), 1))
  return sorted_tokens(Masking((1, 1, 1, 1), min_observed_share=share), z, observed, PATCH, hidden, shuffle)


def assert_same_gradient(ours, theirs, tolerance: float = 1e-5) -> None:
  """Sum of errors, count, and the norm of the difference of every leaf, relative."""
  assert float(ours[1]) == float(theirs[1])
  np.testing.assert_allclose(ours[0], theirs[0], rtol=tolerance)
  for name, leaf in theirs[2].items():
    assert np.linalg.norm(ours[2][name] - leaf) <= tolerance * np.linalg.norm(leaf), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("missing", "share"), [(0.0, 1.0), (0.3, 1.0), (0.3, 0.5), (0.9, 0.0)])
def test_trimmed_is_textbook(kind, missing, share):
  """The same loss and gradients to 1e-5, every bucket that holds the visible tokens, every strategy."""
  tokens = tokens_of(share, jnp.asarray(days(missing)), hidden_by_every_strategy()[kind])
  (textbook,) = encoder_buckets(TOKENS, KINDS[kind].dropped(CHANNELS, LENGTH), "textbook")
  largest = int(tokens.visible_lengths.max())
  assert largest <= textbook
  trimmed = [size for size in encoder_buckets(TOKENS, TOKENS - textbook, "trimmed") if largest <= size < textbook]
  exact = gradient(textbook, tokens)
  assert float(exact[1]) > 0
  for size in trimmed:
    assert_same_gradient(gradient(size, tokens), exact)
  if missing == 0.9 and textbook > 8:
    assert trimmed, "nothing was trimmed: the test is empty"


def test_microbatches_add_up():
  tokens = tokens_of(0.0, jnp.asarray(days(0.3)), hidden_by_every_strategy()["random_unit"])
  assert len(set(np.asarray(tokens.target.sum((1, 2))))) > 1, "the windows weigh alike: a mean of means would do"
  assert_same_gradient(gradient(TOKENS, tokens, 4), gradient(TOKENS, tokens, 1))


def test_draw_is_a_function_of_key_and_step():
  draw, values, key = jax.jit(STEP.draw, compiler_options=FAST), jnp.asarray(days(0.3)), jax.random.key(7)
  first, largest = draw(key, jnp.int32(5), values)
  assert int(largest) == int(first.visible_lengths.max())
  for ours, theirs in zip(first, draw(key, jnp.int32(5), values)[0], strict=True):
    np.testing.assert_array_equal(ours, theirs)
  for other_key, other_step in ((key, 6), (jax.random.key(8), 5)):
    other, _ = draw(other_key, jnp.int32(other_step), values)
    assert (other.order != first.order).any() and (other.target != first.target).any()


# One whole update.


@pytest.fixture(scope="module")
def adam():
  """(step, jitted train, fresh state, tokens) with AdamW at a constant rate and an EMA."""
  step = dataclasses.replace(STEP, optimizer=optax.adamw(1e-2, weight_decay=0.1, mask=decay_mask), ema=0.95)
  state = {"params": params(), "optimizer": step.optimizer.init(params()), "ema": params(), "step": jnp.int32(0)}
  tokens = tokens_of(0.0, jnp.asarray(days(0.3)), hidden_by_every_strategy()["random_unit"])
  return step, jax.jit(step.train, static_argnums=0, compiler_options=FAST), state, tokens


def test_training_lowers_the_loss(adam):
  _, train, state, tokens = adam
  losses = []
  for _ in range(150):
    state, metrics = train(TOKENS, state, tokens)
    losses.append(float(metrics["loss"]))
  assert losses[-1] < 0.7 * losses[0]
  assert int(state["step"]) == 150 and bool(metrics["ok"]) and not metrics["bad"].any()
  assert int(metrics["visible_tokens"]) == int(tokens.visible_lengths.sum())
  assert int(metrics["scored_steps"]) == int(tokens.target.sum())
  assert int(metrics["scored_tokens"]) == int(tokens.scored_lengths.sum())


def test_metrics_are_means_over_scored_steps(adam):
  _, train, state, tokens = adam
  total, count, grads = gradient(TOKENS, tokens)
  _, metrics = train(TOKENS, state, tokens)
  assert float(metrics["loss"]) == pytest.approx(float(total / count), rel=1e-6)
  norm = np.sqrt(sum(float(np.square(leaf).sum()) for leaf in grads.values())) / float(count)
  assert float(metrics["gradient_norm"]) == pytest.approx(norm, rel=1e-5)


def test_ema_follows_at_its_rate(adam):
  _, train, state, tokens = adam
  for step in range(13):
    before = jax.tree.map(np.asarray, state["ema"])
    state, _ = train(TOKENS, state, tokens)
    rate = max(0.05, 1 / (10 + step))  # 1/10, 1/11, ..., then 1 - 0.95 from step 10 on
    for name, leaf in state["ema"].items():
      expected = (1 - rate) * before[name] + rate * np.asarray(state["params"][name])
      np.testing.assert_allclose(leaf, expected, rtol=0, atol=1e-6)
  assert STEP.init(jax.random.key(0))["ema"] == {}


def test_a_batch_without_targets_only_decays_kernels(adam):
  _, train, state, tokens = adam
  state, metrics = train(TOKENS, state, tokens._replace(target=tokens.target & False))
  assert float(metrics["loss"]) == 0 and float(metrics["gradient_norm"]) == 0 and bool(metrics["ok"])
  for name, leaf in state["params"].items():
    shrink = 1 - 1e-2 * 0.1 if name.endswith("kernel") else 1
    np.testing.assert_allclose(leaf, shrink * np.asarray(params()[name]), rtol=1e-6, err_msg=name)


def test_a_nan_changes_nothing_but_the_step(adam):
  _, train, state, tokens = adam
  state, _ = train(TOKENS, state, tokens)
  values = np.array(tokens.values)
  place = np.argwhere(np.asarray(tokens.shown[2]))[0]
  values[2, place[0], place[1]] = np.nan
  after, metrics = train(TOKENS, state, tokens._replace(values=jnp.asarray(values)))
  assert not bool(metrics["ok"]) and metrics["bad"].all()
  assert int(after["step"]) == int(state["step"]) + 1
  for name in ("params", "optimizer", "ema"):
    for ours, theirs in zip(jax.tree.leaves(after[name]), jax.tree.leaves(state[name]), strict=True):
      np.testing.assert_array_equal(ours, theirs)
  again, metrics = train(TOKENS, after, tokens)
  assert bool(metrics["ok"]) and all(np.isfinite(leaf).all() for leaf in again["params"].values())


# The journal's guard and lines.


def journal(tmp_path, on_nan: str = "stop", every: int = 2) -> Journal:
  config = ml_collections.ConfigDict(
    {"total_steps": 4, "batch_size": 4, "log": {"every_steps": every}, "optimizer": {"on_nan": on_nan}}
  )
  names = ["head/bias", "bridge/kernel", "mask_token"]  # not in order, as a caller may give them
  return Journal(config, MetricsWriter(tmp_path), STEP.architecture, names, np.linspace(0, 1, 5), 0)


def measured(bad: tuple[bool, ...] = (False,) * 3, loss: float = 1.0) -> dict:
  ok = not any(bad) and bool(np.isfinite(loss))
  metrics = {"loss": loss, "gradient_norm": 1.0, "visible_tokens": 40, "scored_tokens": 80, "bad": bad, "ok": ok}
  return {name: jnp.asarray(value) for name, value in metrics.items()}


def lines(tmp_path) -> list[dict]:
  return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
  ("bad", "loss", "what"),
  [
    ((False, True, False), 1.0, r"step 1: the gradient of head/bias is NaN or Inf \(1 of 3"),
    ((True, False, True), 1.0, r"step 1: the gradient of bridge/kernel is NaN or Inf \(2 of 3"),
    ((False, False, False), np.nan, r"step 1: the loss is NaN or Inf \(0 of 3"),
  ],
)
def test_the_guard_names_the_first_bad_leaf(tmp_path, bad, loss, what):
  """In the order of the step's `bad`: names sorted."""
  log = journal(tmp_path)
  log.record(0, 8, measured())
  log.record(1, 8, measured(bad, loss))
  with pytest.raises(TrainingError, match=what) as error:
    log.flush()
  assert "\n" not in str(error.value) and "optimizer.on_nan=skip" in str(error.value)
  log.close()


def test_skipping_leaves_the_bad_step_out_of_the_means(tmp_path):
  log = journal(tmp_path, on_nan="skip")
  log.record(0, 8, measured((True, False, False), np.nan))
  log.record(1, 16, measured(loss=3.0))
  assert log.last == {}, "the current step was read"
  log.record(2, 8, measured())
  skipped, interval = lines(tmp_path)
  assert skipped["step"] == 1 and "bridge/kernel" in skipped["skipped"]
  assert interval["step"] == 2 and interval["loss"] == 3.0 and interval["skipped_steps"] == 1
  assert interval["learning_rate"] == 0.25 and interval["encoder_tokens"] == 12 and interval["visible_tokens"] == 10
  log.close()


# Optimiser and buckets.


def test_decay_mask_covers_every_parameter():
  architecture = dataclasses.replace(STEP.architecture, interpolation_skip=True)
  decays = decay_mask(model.abstract(architecture)[1])
  assert {name.rsplit("/")[-1] for name, decayed in decays.items() if decayed} == {"kernel"}
  assert {name.rsplit("/")[-1] for name, decayed in decays.items() if not decayed} == {"bias", "scale", "mask_token"}
  with pytest.raises(ValueError, match="no weight-decay rule matches parameter 'encoder/gate'"):
    decay_mask({"encoder/gate": 0})


@pytest.mark.parametrize("total", [40, 1000])
def test_schedule_endpoints(total):
  rate = schedule(OPTIMIZER, total)
  warmup = total // 10
  assert float(rate(0)) == 0
  assert float(rate(warmup)) == pytest.approx(1e-2)
  assert float(rate(warmup // 2)) == pytest.approx(0.5e-2)
  assert float(rate(warmup + (total - warmup) // 2)) == pytest.approx(0.5e-2, rel=1e-3)
  assert float(rate(total)) == pytest.approx(0, abs=1e-8)
  rates = [float(rate(step)) for step in range(0, total + 1, total // 20)]
  assert np.argmax(rates) == 2 and (np.diff(rates[:3]) > 0).all() and (np.diff(rates[2:]) < 0).all()


def test_two_steps_are_the_shortest_run():
  rate = schedule(OPTIMIZER, 1)
  assert float(rate(0)) == 0 and np.isfinite(float(rate(1)))


def test_the_gradient_is_clipped_by_its_global_norm():
  optimizer, start = make_optimizer(OPTIMIZER, 10), {"kernel": jnp.zeros(2), "bias": jnp.zeros(2)}
  huge = {"kernel": jnp.array([3e3, 0.0]), "bias": jnp.array([0.0, 4e3])}
  _, state = optimizer.update(huge, optimizer.init(start), start)
  (mu,) = [s.mu for s in jax.tree.leaves(state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(s, "mu")]
  np.testing.assert_allclose(mu["kernel"], [0.06, 0], rtol=1e-5)  # 0.1 * 3 / 5
  np.testing.assert_allclose(mu["bias"], [0, 0.08], rtol=1e-5)


@given(tokens=st.integers(2, 6000), share=st.floats(0, 1))
def test_buckets_cover_in_few_even_sizes(tokens, share):
  dropped = int(share * (tokens - 1))
  largest = tokens - dropped
  sizes = encoder_buckets(tokens, dropped, "trimmed")
  assert encoder_buckets(tokens, dropped, "textbook") == (largest,)
  assert 1 <= len(sizes) <= 6 and sizes == tuple(sorted(set(sizes))) and sizes[0] > 0
  assert sizes[-1] == largest
  unit = 128 if largest >= 1024 else 8
  assert all(size % unit == 0 for size in sizes[:-1])
  # Rounding up to the next bucket wastes at most a sixth of the largest and a unit.
  assert all(b - a <= largest / 6 + unit for a, b in zip((0, *sizes), sizes, strict=False))


def test_unknown_form_is_one_line():
  with pytest.raises(UserError, match=r"config\.encoder_form is 'packed', expected 'textbook' or 'trimmed'"):
    encoder_buckets(10, 0, "packed")
