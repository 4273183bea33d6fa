"""A trained model in use: embeddings and reconstructions by hand, what imputation promises, and error messages."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.common.config_files import ConfigError
from aim.inference.day_functions import DayFunctions
from aim.inference.loading import load
from aim.inference.pretrained import Pretrained
from aim.inference.window_embeddings import embed_windows
from aim.model import from_config, lsm2
from aim.model.interpolation_skip import interpolation_evidence
from aim.model.patches import Scale
from aim.model.token_buffers import TokenBuffer
from aim.training.checkpoint import CheckpointError, Restored
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema
from experiments import default

SCHEMA = Schema(60, (Channel("pulse", "bpm"), Channel("asleep", kind="binary"), Channel("skin", "C", clip=2.0)))
TINY = {
  "model.patch_minutes": 180,
  "model.encoder": {"width": 16, "mlp": 32, "heads": 2, "layers": 1},
  "model.decoder": {"width": 8, "mlp": 16, "heads": 2, "layers": 1, "tokens": "all"},
  "impute.short_holes": "decode",
}
MEAN, STD = np.array([70.0, 0.3, 33.0]), np.array([10.0, 0.46, 1.0])


@functools.cache
def pretrained(
  schema: Schema = SCHEMA, batch_size: int = 4, short_holes: str | None = None, devices: int = 1, **changes
) -> Pretrained:
  """A model as read from a checkpoint, but with random parameters; the range seen in training is one SD wide."""
  config = default.get_config()
  named = {key.replace("__", "."): value for key, value in changes.items()}
  for key, value in (TINY | named).items():
    group, _, name = key.rpartition(".")
    holder = functools.reduce(lambda part, step: part[step], group.split("."), config)
    holder[name] = value
  repeats = -(-len(schema.channels) // 3)
  mean, std = (np.where(schema.binary, x, np.tile(y, repeats)[: len(x)]) for x, y in _statistics(schema))
  statistics = {"mean": mean, "std": std, "min": mean - std / 2, "max": mean + std / 2}
  scale = Scale.from_statistics(schema, statistics, config.data.zero_is_missing)
  architecture = from_config.architecture(config, schema)
  rng = np.random.default_rng(0)
  shapes = lsm2.abstract(architecture)[1]
  params = {name: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32) for name, leaf in sorted(shapes.items())}
  restored = Restored(config, schema, scale, architecture, params, 7)
  return Pretrained(restored, batch_size, short_holes, jax.local_devices()[:devices])


def _statistics(schema: Schema):
  ones = np.ones(len(schema.channels))
  return (0.3 * ones, MEAN), (0.46 * ones, STD)


def days(rows: int = 6, schema: Schema = SCHEMA, missing: float = 0.4, seed: int = 0) -> np.ndarray:
  """Days float32 [rows, steps, channels] with scattered holes.

  The first day is complete, the second has lost a channel, and the third has lost its morning.
  """
  rng = np.random.default_rng(seed)
  values = rng.normal(50, 30, (max(rows, 3), schema.steps, len(schema.channels)))
  values[..., schema.binary] = values[..., schema.binary] > 50
  values[rng.random(values.shape) < missing] = np.nan
  values[0] = np.where(np.isnan(values[0]), 1.0, values[0])
  if len(schema.channels) > 1:
    values[1, :, 0] = np.nan
  values[2, : schema.steps // 2] = np.nan
  return values[:rows].astype(np.float32)


def tokens_by_hand(trained: Pretrained, day: np.ndarray) -> tuple[list[int], list[int], list, list]:
  """Tokens with an observed step, tokens without, and the z-scores and observed flags of the former."""
  a, scale = trained.architecture, trained.scale
  tokens, values, visible = [], [], []
  for c in range(a.channels):
    for t in range(a.length):
      steps = day[t * a.patch : (t + 1) * a.patch, c].astype(np.float64)
      if np.isnan(steps).all():
        continue
      z = steps if scale.binary[c] else np.clip((steps - scale.mean[c]) / scale.std[c], -scale.clip[c], scale.clip[c])
      tokens.append(c * a.length + t)
      values.append(np.nan_to_num(z))
      visible.append(~np.isnan(steps))
  return tokens, [n for n in range(a.tokens) if n not in tokens], values, visible


def encoded_by_hand(trained: Pretrained, day: np.ndarray) -> tuple[list[int], np.ndarray]:
  """The k tokens with an observed step, and the encoder's output for them alone, float64 [k, width]."""
  tokens, encoded, _ = _dense(trained, day)
  return tokens[: len(encoded)], encoded.astype(np.float64)


def _dense(trained: Pretrained, day: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
  """One day in buffers as large as the grid: order of the tokens, encoded observed tokens, predictions of all."""
  tokens, others, values, visible = tokens_by_hand(trained, day)
  pad = trained.architecture.tokens - len(tokens)  # one shape for all days
  pads = lambda x, dtype: jnp.asarray(np.concatenate([x, np.zeros((pad, *np.shape(x)[1:]))])[None], dtype)
  order = tokens + others
  arrays = pads(values, jnp.float32), pads(visible, bool), jnp.array([order], jnp.int32), jnp.array([len(tokens)])
  encoded, prediction = map(np.asarray, _dense_program(trained)(*arrays, *_evidence_by_hand(trained, day, order)))
  return order, encoded[0, : len(tokens)], prediction[0]


def _evidence_by_hand(trained: Pretrained, day: np.ndarray, order: list[int]) -> tuple[jax.Array, ...]:
  """The evidence at each token in that order, float32 [1, n, p, features], if the architecture reads it."""
  a = trained.architecture
  if not a.interpolation_skip:
    return ()
  z, observed = (np.asarray(x) for x in trained.scale.normalise(day[None]))
  evidence = np.asarray(
    interpolation_evidence(jnp.asarray(z), jnp.asarray(observed), jnp.asarray(a.binary), a.skip_evidence)
  )[0]
  return (jnp.array([[evidence[n % a.length * a.patch :][: a.patch, n // a.length] for n in order]]),)


@functools.cache
def _dense_program(trained: Pretrained):
  """Encodes and decodes windows, each in a buffer of the whole grid: nothing is sorted, cut or left out."""
  network = lsm2.merge(lsm2.abstract(trained.architecture)[0], trained.params)
  n = trained.architecture.tokens

  def program(values, visible, order, lengths, evidence=None):
    zeros = jnp.zeros_like(lengths)
    observed, everything = TokenBuffer.padded(zeros, lengths, n), TokenBuffer.padded(zeros, zeros + n, n)
    encoded = network.encode(values, visible, order, observed)
    return encoded, network.decode(encoded, observed, order, everything, None, evidence)

  return jax.jit(program)


def reconstructed_by_hand(trained: Pretrained, day: np.ndarray) -> np.ndarray:
  """float64 [steps, channels]: each token's prediction written where the token lies."""
  a, scale = trained.architecture, trained.scale
  order, _, prediction = _dense(trained, day)
  z = np.zeros(day.shape)
  for place, n in enumerate(order):
    c, t = divmod(n, a.length)
    x = prediction[place].astype(np.float64)
    x = 1 / (1 + np.exp(-x)) if scale.binary[c] else np.clip(x, -scale.clip[c], scale.clip[c])
    z[t * a.patch : (t + 1) * a.patch, c] = x
  return z


# Embeddings.


def test_an_embedding_is_the_mean_over_observed_tokens():
  trained, values = pretrained(), days(3)
  embedding, both = trained.embed(values), trained.embed(values, pool="mean_std")
  assert embedding.shape == (3, 16) and embedding.dtype == np.float32 and both.shape == (3, 32)
  for i in range(3):
    _, encoded = encoded_by_hand(trained, values[i])
    np.testing.assert_allclose(embedding[i], encoded.mean(0), atol=2e-5)
    np.testing.assert_allclose(both[i], np.concatenate([encoded.mean(0), encoded.std(0)]), atol=2e-5)


def test_an_embedding_by_channel_is_the_mean_over_each_channels_tokens():
  trained, values = pretrained(), days(3)
  values[1, :, 1] = np.nan
  a = trained.architecture
  embedding = trained.embed(values, pool="channel")
  assert embedding.shape == (3, trained.embedding_width("channel")) == (3, 3 * 16)
  for i in range(3):
    tokens, encoded = encoded_by_hand(trained, values[i])
    for c in range(3):
      of_channel = np.array(tokens) // a.length == c
      assert not (of_channel.any() and (i, c) == (1, 1))
      expected = encoded[of_channel].mean(0) if of_channel.any() else np.full(16, np.nan)
      np.testing.assert_allclose(embedding[i].reshape(3, 16)[c], expected, atol=2e-5)


@pytest.mark.parametrize("batch_size", [4, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 32))])
def test_results_do_not_depend_on_batches(batch_size):
  """To 1e-5, because the encoder is as long as the fullest day of a batch needs, and sums run in another order."""
  values = days()
  apart = pretrained(batch_size=batch_size)
  together = pretrained(batch_size=6)
  backwards = apart.embed(values[::-1])[::-1]
  np.testing.assert_allclose(apart.embed(values), together.embed(values), rtol=0, atol=1e-5)
  np.testing.assert_allclose(backwards, together.embed(values), rtol=0, atol=1e-5)
  np.testing.assert_allclose(apart.reconstruct(values), together.reconstruct(values), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
  ("tokens", "batch_size", "skip"),
  [
    ("all", 4, False),
    pytest.param("observed", 4, True, marks=pytest.mark.slow),
    pytest.param("refined", 4, True, marks=pytest.mark.slow),
    pytest.param("visible", 4, False, marks=pytest.mark.slow),
    pytest.param("all", 32, True, marks=pytest.mark.slow),
  ],
)
def test_days_of_any_coverage_are_computed_as_each_alone(tokens, batch_size, skip, monkeypatch):
  """Days in random order, in buffers cut to each batch, get the dense model's results to 1e-5, in the order given."""
  trained = pretrained(
    batch_size=batch_size, model__patch_minutes=60, model__decoder__tokens=tokens, model__interpolation_skip=skip
  )
  rng = np.random.default_rng(7)
  values = days(24, missing=0.0, seed=1)
  values[rng.random(values.shape) < np.linspace(0, 0.98, 24)[:, None, None]] = np.nan
  values[5, 2:], values[6] = np.nan, np.nan_to_num(values[6], nan=1.0)  # a nearly empty day, and a complete one
  values[:, 0, 0] = 70.0  # no day is empty
  order = rng.permutation(24)
  values = values[order]
  used = set()
  padded_sizes = DayFunctions.padded_sizes
  monkeypatch.setattr(DayFunctions, "padded_sizes", lambda *counts: used.add(sizes := padded_sizes(*counts)) or sizes)
  embedding, z, filled = trained.embed(values), trained.reconstruct(values), trained.impute(values)
  if batch_size == 4:
    assert len({size.encoder for size in used}) > 2 and len({size.targets for size in used}) > 2, (
      "all batches had the same size"
    )
  # Every other day, the nearly empty and the complete one among them: each takes a second by hand.
  for i in np.flatnonzero((order % 2 == 0) | (order == 5)):
    day = values[i]
    _, encoded = encoded_by_hand(trained, day)
    np.testing.assert_allclose(embedding[i], encoded.mean(0), rtol=1e-5, atol=1e-5)
    expected = reconstructed_by_hand(trained, day)
    np.testing.assert_allclose(z[i], expected, rtol=1e-5, atol=1e-5)
    physical = trained.physical(expected.astype(np.float32))
    sure = ~SCHEMA.binary | (np.abs(expected - 0.5) > 1e-5)
    imputed = np.where(np.isnan(day), physical, day)
    np.testing.assert_allclose(np.where(sure, filled[i], 0), np.where(sure, imputed, 0), rtol=1e-5, atol=2e-4)
  # In another order the days are sorted into other batches, and get the same results.
  again = rng.permutation(24)
  np.testing.assert_allclose(trained.impute(values[again]), filled[again], rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("tokens", ["refined", pytest.param("all", marks=pytest.mark.slow)])
def test_what_is_asked_together_does_not_matter(tokens):
  trained, values = pretrained(model__decoder__tokens=tokens), days(3)
  everything = trained.reconstruct(values)
  some = np.random.default_rng(0).random(values.shape) < 0.02
  np.testing.assert_allclose(trained.reconstruct(values, some)[some], everything[some], rtol=0, atol=1e-5)


def test_encoded_tokens_lie_where_they_are_in_the_day():
  trained, values = pretrained(), days(3)
  values[1, :, 1] = np.nan
  encoded = trained.encode_tokens(values)
  length, width = trained.architecture.length, trained.architecture.encoder.width
  assert encoded.shape == (3, 3, length, width) and encoded.dtype == np.float32
  for i in range(3):
    tokens, expected = encoded_by_hand(trained, values[i])
    flat = encoded[i].reshape(3 * length, width)
    np.testing.assert_allclose(flat[tokens], expected, atol=2e-5)
    lost = np.setdiff1d(np.arange(3 * length), tokens)
    assert np.isnan(flat[lost]).all() and (i != 1 or len(lost) >= length)


def test_a_dropped_model_is_freed():
  """A program that loads many models must not keep all of them alive by their compiled functions."""
  trained, values = pretrained.__wrapped__(), days(3)
  trained.embed(values)
  trained.encode_tokens(values)
  trained.impute(values)
  embed_windows(trained, values, np.array([0]), np.array([0]), np.array([6]))
  dropped = weakref.ref(trained), *map(weakref.ref, trained.params.values())
  del trained
  gc.collect()
  assert [reference() for reference in dropped] == [None] * len(dropped)


def test_different_days_have_different_embeddings():
  embedding = pretrained().embed(days())
  assert (np.abs(embedding[:, None] - embedding[None]).max(-1) > 1e-3)[np.triu_indices(6, 1)].all()


def test_observed_steps_of_inherited_tokens_are_not_read():
  """If one missing step makes a patch inherited, the other steps of the patch change nothing, not even a bit."""
  trained = pretrained(masking__min_observed_share=1.0)
  values = days(missing=0.1)
  inherited = np.repeat(np.isnan(values).reshape(6, 8, 3, 3).any(2), 3, axis=1)
  changed = np.where(inherited, values + 1 * ~SCHEMA.binary, values).astype(np.float32)
  assert (changed != values)[~np.isnan(values)].any() and (~inherited).any((1, 2)).all()
  np.testing.assert_array_equal(trained.embed(changed), trained.embed(values))
  np.testing.assert_array_equal(trained.reconstruct(changed), trained.reconstruct(values))


# Imputation.


def test_a_reconstruction_is_the_decoder_on_the_grid():
  trained, values = pretrained(), days(3)
  for z, day in zip(trained.reconstruct(values), values, strict=True):
    np.testing.assert_allclose(z, reconstructed_by_hand(trained, day), atol=1e-4)


def check_imputed(trained: Pretrained, values: np.ndarray, filled: np.ndarray) -> None:
  holes, scale = np.isnan(values), trained.scale
  assert filled.shape == values.shape and filled.dtype == np.float32
  np.testing.assert_array_equal(filled[~holes].view(np.int32), values[~holes].astype(np.float32).view(np.int32))
  assert np.isfinite(filled).all()
  for c in range(values.shape[2]):
    imputed = filled[..., c][holes[..., c]]
    if scale.binary[c]:
      assert np.isin(imputed, (0, 1)).all()
    else:
      assert (imputed >= scale.low[c]).all() and (imputed <= scale.high[c]).all()


@pytest.mark.parametrize("short_holes", ["decode", "interpolate"])
def test_imputation_keeps_observed_values_and_fills_the_rest(short_holes):
  trained, values = pretrained(short_holes=short_holes), days()
  before = values.copy()
  filled = trained.impute(values)
  np.testing.assert_array_equal(values, before, "impute() must not change its argument")
  check_imputed(trained, values, filled)
  z = trained.reconstruct(values)
  holes = np.isnan(values)
  np.testing.assert_allclose(filled[holes], trained.physical(z)[holes], rtol=1e-5)  # in buffers of other sizes


def test_a_target_is_reconstructed_as_everything_is():
  trained, values = pretrained(), days()
  whole, target = trained.reconstruct(values), np.zeros(values.shape, bool)
  target[:, 3:5, 0] = True
  target[1] = False  # nothing of this day
  some = trained.reconstruct(values, target)
  np.testing.assert_allclose(some[target], whole[target], rtol=0, atol=1e-5)
  with pytest.raises(SchemaError, match="target is float64"):
    without_type_check("reconstruct", trained)(values, target.astype(float))


@pytest.mark.parametrize("skip", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_channels_that_a_day_lacks_change_nothing_of_the_others(skip):
  trained = pretrained(model__decoder__tokens="present", model__interpolation_skip=skip)
  values = days()
  values[:, 0] = 70, 1, 33  # every day has every channel, but for these
  values[:4, :, 1] = np.nan
  values[2:5, :, 2] = np.nan
  whole, target = trained.reconstruct(values), np.zeros(values.shape, bool)
  target[:, 3:15, 0] = True
  np.testing.assert_allclose(trained.reconstruct(values, target)[target], whole[target], rtol=0, atol=1e-5)
  # A part of a channel that is lost, alone in two of the days, is filled as the whole channel is.
  part, lost = np.zeros(values.shape, bool), np.zeros(values.shape, bool)
  part[:2, 5:7, 1] = lost[:2, :, 1] = True
  np.testing.assert_allclose(
    trained.reconstruct(values, part)[part], trained.reconstruct(values, lost)[part], rtol=0, atol=1e-5
  )
  np.testing.assert_allclose(trained.reconstruct(values, part)[part], whole[part], rtol=0, atol=1e-5)


def test_reconstructions_lie_in_the_range_of_training():
  trained, values = pretrained(), days()
  z = trained.reconstruct(values)
  assert (
    ((z[..., 1] >= 0) & (z[..., 1] <= 1)).all() and (np.abs(z[..., 0]) <= 5).all() and (np.abs(z[..., 2]) <= 2).all()
  )


def test_short_holes_can_be_filled_with_lines():
  values = np.full((1, 24, 3), np.nan, np.float32)
  values[0, 3:6, 0] = [66, np.nan, 74]  # inside one patch of three hours
  values[0, 9:12, 0] = [np.nan, np.nan, 72]  # the line from 74 at five o'clock
  decoded, lines = (pretrained(short_holes=kind).impute(values) for kind in ("decode", "interpolate"))
  np.testing.assert_allclose(lines[0, [4, 9, 10], 0], [70, 74 - 2 * 4 / 6, 74 - 2 * 5 / 6], atol=1e-4)
  other = np.ones((24, 3), bool)
  other[[4, 9, 10], 0] = False
  np.testing.assert_array_equal(lines[0][other], decoded[0][other])


@pytest.mark.parametrize(
  ("masks", "filled"),
  [
    ({}, "interpolate"),
    ({"masking__random__unit_minutes": 180}, "interpolate"),  # whole patches
    ({"masking__random__unit_minutes": 60, "masking__random__weight": 0.0}, "interpolate"),
    ({"masking__random__unit_minutes": 60}, "decode"),
    ({"masking__random__unit_minutes": 60, "model__patch_channels": 3}, "decode"),
    ({"masking__random__unit_minutes": 180, "model__patch_channels": 3}, "interpolate"),
    ({"masking__min_observed_share": 1.0}, "decode"),
    ({"masking__gaps__weight": 0.1, "masking__gaps__shortest_minutes": 60}, "decode"),
  ],
)
def test_short_holes_are_decoded_where_training_had_some(masks, filled):
  assert pretrained(impute__short_holes="auto", **masks).short_holes == filled
  assert pretrained(short_holes="auto", **masks).short_holes == filled
  assert pretrained(short_holes="decode", **masks).short_holes == "decode"


def test_an_empty_day_is_filled():
  trained = pretrained()
  values = days(2)
  values[1] = np.nan
  check_imputed(trained, values, trained.impute(values))


@pytest.mark.parametrize("convert", [jnp.asarray, np.ndarray.tolist, np.asfortranarray, lambda v: v.astype(">f8")])
def test_days_may_be_anything_that_is_an_array_of_numbers(convert):
  trained, values = pretrained(), days(2)
  np.testing.assert_array_equal(trained.embed(convert(values)), trained.embed(values))
  np.testing.assert_array_equal(trained.impute(convert(values)), trained.impute(values))
  np.testing.assert_array_equal(trained.reconstruct(convert(values)), trained.reconstruct(values))
  np.testing.assert_array_equal(trained.encode_tokens(convert(values)), trained.encode_tokens(values))


@given(
  dtype=st.sampled_from(["float16", "float32", "float64", "longdouble", ">f8", "int8", "int64", "uint16"]),
  seed=st.integers(0, 9),
)
def test_observed_values_come_back_as_they_went_in(dtype, seed):
  rng = np.random.default_rng(seed)
  values = days(2).astype(np.float64)
  exact = rng.normal(60, 20, values.shape) * 10.0 ** rng.integers(-4, 3, values.shape)
  values = np.where(SCHEMA.binary | np.isnan(values), values, exact)
  if np.dtype(dtype).kind != "f":
    values = np.abs(np.nan_to_num(values)).clip(0, 100)
    values[..., SCHEMA.binary] %= 2
    values = values.round().clip(0, np.where(SCHEMA.binary, 1, 100))
  values = values.astype(dtype)
  before, filled = values.copy(), pretrained().impute(values)
  missing = np.isnan(before)
  assert filled.dtype == before.dtype and np.isfinite(filled).all()
  assert filled[~missing].tobytes() == before[~missing].tobytes(), "bit for bit"
  assert values.tobytes() == before.tobytes(), "the caller's array is left alone"


def test_bfloat16_days():
  values = days(2)
  values[0, :4], values[1, 4, 2] = 1.0, np.nan
  rounded = jnp.asarray(values, jnp.bfloat16)
  filled = pretrained().impute(rounded)
  observed = ~np.isnan(values)
  assert filled.dtype == jnp.bfloat16 and np.isfinite(filled).all()
  np.testing.assert_array_equal(filled[observed], np.asarray(rounded)[observed])
  np.testing.assert_array_equal(pretrained().embed(rounded), pretrained().embed(np.asarray(rounded, np.float32)))
  with pytest.raises(SchemaError, match="embed: row 0 step 0 channel 'pulse' is infinite"):
    pretrained().embed(rounded.at[0, 0, 0].set(jnp.inf))


def test_physical_units_of_what_is_no_number_or_no_day():
  z = np.zeros((2, 24, 3), np.float32)
  z[0, 0], z[1, 1], z[1, 2] = np.nan, np.inf, -np.inf
  physical = pretrained().physical(z)
  np.testing.assert_array_equal(physical[~np.isfinite(z)], z[~np.isfinite(z)])
  assert np.isfinite(physical[np.isfinite(z)]).all() and physical.dtype == np.float32
  for wrong in (z[..., :2], z[:, :5], np.float32(1.0), z.astype(str)):
    with pytest.raises(SchemaError, match=r"physical: z-scores are .*, expected numbers \[\.\.\., 24, 3\]"):
      without_type_check("physical", pretrained())(wrong)
  with pytest.raises(SchemaError, match="physical: z-scores are a masked array"):
    without_type_check("physical", pretrained())(np.ma.asarray(z))


def test_what_a_dtype_cannot_hold_is_refused():
  pressure = Schema(60, (Channel("pressure"), Channel("pulse")))
  trained = pretrained(pressure)
  far = Scale.from_statistics(pressure, {"mean": [1e5, 70.0], "std": [9.0, 9.0], "min": [9e4, 9.0], "max": [2e5, 99.0]})
  restored = Restored(trained.config, pressure, far, trained.architecture, trained.params, 7)
  values = np.full((1, 24, 2), 60, np.float16)
  values[0, 3:, 0] = np.nan
  with pytest.raises(
    SchemaError, match=r"impute: row 0 step 3 channel 'pressure' would be filled with .* float16; pass"
  ):
    Pretrained(restored).impute(values)


@pytest.mark.parametrize("method", ["embed", "encode_tokens", "impute", "reconstruct"])
def test_a_value_beyond_float32_is_named(method):
  values = days(3).astype(np.float64)
  values[1, 5, 2] = -1e300
  with pytest.raises(SchemaError) as error:
    getattr(pretrained(), method)(values)
  message = "row 1 step 5 channel 'skin' is -1e+300, expected at most 3.4e+38: the model computes in float32"
  assert str(error.value) == f"{method}: {message}"


@pytest.mark.parametrize("method", ["embed", "encode_tokens", "impute", "reconstruct"])
def test_a_model_that_is_not_finite_is_named(method):
  trained = pretrained()
  name = min(name for name in trained.params if name.startswith("encoder/"))
  params = trained.params | {name: trained.params[name].at[0].set(jnp.nan)}
  restored = Restored(trained.config, trained.schema, trained.scale, trained.architecture, params, 7)
  with pytest.raises(
    CheckpointError, match=f"{'reconstruct' if method == 'impute' else method}: .* parameter {name} of"
  ):
    getattr(Pretrained(restored), method)(days(3))


def test_a_day_without_a_usable_patch_is_refused():
  trained = pretrained(masking__min_observed_share=1.0)
  values = days(3, missing=0.0)
  values[1] = np.nan
  values[1, 4, 2] = 33.0
  with pytest.raises(SchemaError, match="embed: row 1 has no patch of which a share of 1 is observed, as this model"):
    trained.embed(values)


@pytest.mark.parametrize("path", [None, 5, ""])
def test_no_path_is_one_line(path):
  with pytest.raises(CheckpointError, match=r"^aim\.load\(.*\): expected a path or a name"):
    load.__wrapped__(path)


@pytest.mark.parametrize(("channels", "skip"), [(1, False), pytest.param(34, True, marks=pytest.mark.slow)])
def test_other_schemas(channels, skip):
  """288 steps per day and one channel or 34, with nothing changed but the schema."""
  kinds = ["binary" if i % 5 == 4 else "continuous" for i in range(channels)]
  schema = Schema(5, tuple(Channel(f"c{i}", kind=kind) for i, kind in enumerate(kinds)))
  smooth = {"model__interpolation_skip": skip, "model__skip_evidence": "smooth"}
  trained = pretrained(schema, batch_size=3, model__patch_minutes=120, **smooth)
  values = days(3, schema)
  values[1, 100:] = np.nan
  embedding = trained.embed(values)
  assert embedding.shape == (3, 16) and np.isfinite(embedding).all()
  _, encoded = encoded_by_hand(trained, values[1])
  np.testing.assert_allclose(embedding[1], encoded.mean(0), atol=2e-5)
  check_imputed(trained, values, trained.impute(values))


# Errors.


def broken(change) -> np.ndarray:
  values = days(3)
  change(values)
  return values


def without_type_check(method: str, trained: Pretrained):
  """A method as users call it: the tests' check of annotations (conftest.py) would refuse bad arrays before it does."""
  return functools.partial(getattr(Pretrained, method).__wrapped__, trained)


@pytest.mark.parametrize("method", ["embed", "encode_tokens", "impute", "reconstruct"])
@pytest.mark.parametrize(
  ("values", "message"),
  [
    (np.zeros((2, 24, 3), complex), "values are complex128, expected floating point with NaN for missing"),
    (np.zeros((2, 24, 3), object), "values are object, expected floating point with NaN for missing"),
    (np.ma.zeros((2, 24, 3)), "values are a masked array, expected NaN for missing"),
    ([np.ma.masked_less(day, 10) for day in days(2)], "values are a list of masked arrays, expected NaN for missing"),
    ([tuple(map(np.ma.asarray, day)) for day in days(2)], "values are a list of masked arrays, expected NaN"),
    ([[[np.ma.masked, 0.0, 1.0]] * 24], "values are a list of masked arrays, expected NaN for missing"),
    (None, "values have shape (), expected [days, 24, 3]"),
    ([[[0.0] * 3] * 24, [[0.0] * 3] * 23], "values are a list that is no array of numbers: "),
    (np.zeros((24, 3), np.float32), r"values have shape (24, 3), expected [days, 24, 3]"),
    (np.zeros((2, 24, 4), np.float32), r"values have shape (2, 24, 4), expected [..., 24, 3]"),
    (np.zeros((2, 1440, 3), np.float32), r"values have shape (2, 1440, 3), expected [..., 24, 3]"),
    (broken(lambda v: v.__setitem__((2, 5, 0), np.inf)), "row 2 step 5 channel 'pulse' is infinite"),
    (
      broken(lambda v: v.__setitem__((1, 5, 1), 0.5)),
      "row 1 step 5 binary channel 'asleep' holds 0.5, expected 0, 1 or NaN",
    ),
    (np.zeros((0, 24, 3), np.float32), "there are no days"),
  ],
)
def test_bad_days_are_one_line(method, values, message):
  with pytest.raises(SchemaError) as error:
    without_type_check(method, pretrained())(values)
  assert str(error.value).startswith(f"{method}:") and message in str(error.value) and "\n" not in str(error.value)


def test_an_empty_day_has_no_embedding():
  values = days(3)
  values[1] = np.nan
  with pytest.raises(SchemaError, match="embed: row 1 has no observed value; a day needs at least one"):
    pretrained().embed(values)


def test_unknown_choices_are_one_line():
  with pytest.raises(ConfigError, match="pool is 'max', expected one of mean, mean_std, channel"):
    pretrained().embed(days(1), pool="max")
  with pytest.raises(ConfigError, match=r"short_holes is 'guess', expected one of auto, decode, interpolate"):
    pretrained(short_holes="guess")


def test_a_checkpoint_from_before_short_holes_takes_the_default():
  trained = pretrained()
  config = trained.config.copy_and_resolve_references()
  del config["impute"]
  restored = Restored(config, trained.schema, trained.scale, trained.architecture, trained.params, 7)
  assert Pretrained(restored).short_holes == "decode"


@pytest.mark.parametrize("batch_size", [0, -1, True])
def test_a_batch_size_that_is_no_number_of_days_is_one_line(batch_size):
  trained = pretrained()
  restored = Restored(trained.config, trained.schema, trained.scale, trained.architecture, trained.params, 7)
  with pytest.raises(ConfigError, match=f"batch_size is {batch_size!r}, expected a whole number of at least 1"):
    Pretrained(restored, batch_size)
