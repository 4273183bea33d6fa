"""The model against an independent float64 NumPy forward pass, and what its results must not depend on."""

import dataclasses
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aim.model import buffer_sizes, flops, from_config, interpolation, interpolation_skip, loss, lsm2
from aim.model.attention.backends import padded_attention
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Architecture, Tower
from aim.model.masking import STRATEGIES, TokenSet, evaluation_token_set, sorted_token_set
from aim.model.positions import sincos, token_positions
from aim.model.token_buffers import TokenBuffer
from aim.runtime import devices
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from tests import tiny

PLAIN = tiny.architecture(3, 8, 4, Tower(16, 24, 2, 2), Tower(8, 12, 2, 1), observed_flags=False)
FLAGS = dataclasses.replace(PLAIN, observed_flags=True)
SKIP = dataclasses.replace(FLAGS, interpolation_skip=True, binary=(False, True, False))
SMOOTH = dataclasses.replace(SKIP, skip_evidence="smooth")
AFTER = dataclasses.replace(SMOOTH, evidence_embedding="after")


def random_parameters(architecture: Architecture, seed: int = 0) -> dict[str, jax.Array]:
  """Moves every parameter, biases and norms too, from its initial value; small enough for eps to matter."""
  rng = np.random.default_rng(seed)
  _, shapes = lsm2.abstract(architecture)
  params = {name: rng.normal(0, 0.3, leaf.shape) for name, leaf in sorted(shapes.items())}
  small = {name: 0.02 * array for name, array in params.items() if name.startswith("patch_embedding")}
  return {name: jnp.asarray(array, jnp.float32) for name, array in (params | small).items()}


def build(architecture: Architecture, seed: int = 0) -> lsm2.Lsm2:
  return lsm2.merge(lsm2.abstract(architecture)[0], random_parameters(architecture, seed))


# The whole forward pass again in float64 NumPy, from the named parameters.


def ref_sincos(p: float, width: int) -> list[float]:
  frequencies = [10000 ** (-k / (width / 2)) for k in range(width // 2)]
  return [math.sin(p * w) for w in frequencies] + [math.cos(p * w) for w in frequencies]


def ref_position(token: int, length: int, width: int) -> list[float]:
  channel, time = divmod(token, length)
  return ref_sincos(channel, width // 2) + ref_sincos(time * 144 / length, width // 2)  # in units of ten minutes


def ref_norm(x: np.ndarray, params: dict, name: str) -> np.ndarray:
  centred = x - x.mean(-1, keepdims=True)
  return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * params[f"{name}/scale"] + params[f"{name}/bias"]


def ref_gelu(x: np.ndarray) -> np.ndarray:
  return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def ref_linear(x: np.ndarray, params: dict, name: str) -> np.ndarray:
  return x @ params[f"{name}/kernel"] + params[f"{name}/bias"]


def ref_attention(x: np.ndarray, memory: np.ndarray, params: dict, name: str) -> np.ndarray:
  kernel, bias = params[f"{name}/qkv/kernel"], params[f"{name}/qkv/bias"]
  out = np.zeros_like(x) + params[f"{name}/out/bias"]
  for h in range(kernel.shape[2]):
    q, k, v = (y @ kernel[:, i, h] + bias[i, h] for i, y in enumerate((x, memory, memory)))
    scores = q @ k.T / math.sqrt(kernel.shape[3])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out += weights / weights.sum(-1, keepdims=True) @ v @ params[f"{name}/out/kernel"][h]
  return out


def ref_tower(
  x: np.ndarray, params: dict, name: str, tower: Tower, memory: np.ndarray | None = None, read: int | None = None
) -> np.ndarray:
  """Tokens attend to one another or, if there is a memory, to it alone; or only to the first `read` of them."""
  for i in range(tower.layers):
    block = f"{name}/blocks/{i}"
    if read is not None:
      memory = x[:read]
    norm = lambda y, block=block: ref_norm(y, params, f"{block}/norm1")
    x = x + ref_attention(norm(x), norm(x if memory is None else memory), params, f"{block}/attention")
    hidden = ref_gelu(ref_linear(ref_norm(x, params, f"{block}/norm2"), params, f"{block}/mlp/up"))
    x = x + ref_linear(hidden, params, f"{block}/mlp/down")
  return ref_norm(x, params, f"{name}/norm")


def ref_encode(a: Architecture, params: dict, values, shown, token) -> np.ndarray:
  """Encodes one window: values and shown [k, p], token [k]."""
  x = np.where(shown, values, 0.0)
  if a.observed_flags:
    x = np.concatenate([x, shown], axis=-1)
  x = ref_linear(x, params, "patch_embedding")
  x = x + np.array([ref_position(n, a.length, a.encoder.width) for n in token])
  return ref_tower(x, params, "encoder", a.encoder)


def ref_decode(a: Architecture, params: dict, encoded, token, evidence=None):
  """Decodes one window: encoded [k, d] of the first k tokens, token [m], evidence [m, p, f] if there is the skip.

  Returns [m, p], of which a cross-attention decoder can be asked for any part.
  """
  places = np.array([ref_position(n, a.length, a.decoder.width) for n in token])
  seen = ref_linear(encoded, params, "bridge")
  x = np.tile(params["mask_token"], (len(token), 1))
  x[: len(encoded)] = seen
  x = x + places
  memory = x[: len(encoded)] if a.decoder_tokens == "visible" else None
  known = 0.0
  if evidence is not None:
    known = ref_linear(evidence[..., :4].reshape(len(token), -1), params, "evidence_embedding")
  if a.evidence_embedding == "before":
    x = x + known
  read = len(encoded) if a.decoder_tokens == "refined" else None
  x = ref_tower(x, params, "decoder", a.decoder, memory, read)
  if a.evidence_embedding == "after":
    x = x + known
  out = ref_linear(x, params, "head")
  if evidence is None:
    return out
  line, level = evidence[..., 0], evidence[..., 1]
  if a.skip_evidence == "line":
    correction, weight = out[:, : a.patch], out[:, a.patch :]
    return correction + level + (line - level) / (1 + np.exp(-weight))
  knots = [math.log(minutes / 30) for minutes in (0.6, 1.5, 3.75, 9.375, 23.4375, 58.59375)]
  out, shifts = out[:, : a.patch], out[:, a.patch :]
  curves = 4 * params["skip_curves"][token // a.length]
  tau, weight, *shares = (
    np.stack([np.interp(evidence[i, :, 4], knots, curves[i, k]) for i in range(len(token))]) for k in range(5)
  )
  tau, weight = tau + shifts[:, :1], weight + shifts[:, 1:]
  distance = np.exp(evidence[..., 4])
  value = line + distance / (distance + np.exp(tau)) * (out + (level - line) / (1 + np.exp(-weight)))
  return value + sum(share * (evidence[..., 5 + i] - line) for i, share in enumerate(shares))


def sets(a: Architecture, windows: int = 3, seed: int = 1):
  """Random token sets: values, shown, token, visible lengths, and decoder lengths."""
  rng = np.random.default_rng(seed)
  n = a.tokens
  token = np.stack([rng.permutation(n) for _ in range(windows)]).astype(np.int32)
  lengths = rng.integers(1, n // 2, windows).astype(np.int32)
  shown = rng.random((windows, n, a.patch)) < 0.7
  shown &= (np.arange(n) < lengths[:, None])[:, :, None]
  values = rng.normal(size=shown.shape).astype(np.float32)
  return values, shown, token, lengths, (lengths + n // 3).astype(np.int32)


def encode(network: lsm2.Lsm2, *arrays) -> np.ndarray:
  return np.asarray(_encode(network, *(jnp.asarray(array) for array in arrays)))


@nnx.jit
def _encode(network, values, shown, token, lengths):
  return network.encode(values, shown, token, padded(lengths, values.shape[1]))


@nnx.jit
def _decode(network, encoded, encoded_lengths, token, lengths, evidence=None):
  """Predictions of the first `lengths` tokens."""
  rows = padded(encoded_lengths, encoded.shape[1])
  return network.decode(encoded, rows, token, padded(lengths, token.shape[1]), None, evidence)


def padded(lengths: jax.Array, longest: int) -> TokenBuffer:
  return TokenBuffer.padded(jnp.zeros_like(lengths), lengths, longest)


def decoder(a: Architecture, tokens: str) -> Architecture:
  return dataclasses.replace(a, decoder=dataclasses.replace(a.decoder, layers=2), decoder_tokens=tokens)


@pytest.mark.parametrize("a", [PLAIN, FLAGS], ids=["plain", "flags"])
def test_encoder_is_the_reference(a):
  """float32 against float64, to 2e-5 of values of order 1."""
  params = {name: np.asarray(leaf, np.float64) for name, leaf in random_parameters(a).items()}
  values, shown, token, lengths, _ = sets(a)
  ours = encode(build(a), values, shown, token, lengths)
  for i, k in enumerate(lengths):
    theirs = ref_encode(a, params, values[i, :k].astype(np.float64), shown[i, :k], token[i, :k])
    np.testing.assert_allclose(ours[i, :k], theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(
  ("a", "tokens"),
  [(PLAIN, "all"), (SKIP, "all"), (SMOOTH, "all"), (PLAIN, "observed"), (SMOOTH, "observed"), (PLAIN, "refined"),
   (SMOOTH, "refined"), (PLAIN, "visible"), (SKIP, "visible"), (AFTER, "all"), (AFTER, "refined")],
)  # fmt: skip
@pytest.mark.parametrize("part", [False, True])
def test_decoder_is_the_reference(a, tokens, part):
  """With all positions or some, and with all predictions or one stretch of each window."""
  a = decoder(a, tokens)
  params = {name: np.asarray(leaf, np.float64) for name, leaf in random_parameters(a).items()}
  _, _, token, encoded_lengths, lengths = sets(a)
  if tokens == "all":
    lengths = np.full_like(lengths, a.tokens)
  first = np.maximum(encoded_lengths - 1, 0) if part else np.zeros_like(lengths)
  rng = np.random.default_rng(2)
  encoded = rng.normal(size=(3, a.tokens // 2, a.encoder.width)).astype(np.float32)
  features = interpolation_skip.FEATURES[a.skip_evidence]
  evidence = rng.normal(size=(3, a.tokens, a.patch, features)).astype(np.float32) if a.interpolation_skip else None

  @jax.jit
  def predict(*arrays):
    encoded, encoded_lengths, token, first, lengths, evidence = arrays
    targets = TokenBuffer.padded(first, lengths - first, a.tokens) if part else None
    visible, decoded = padded(encoded_lengths, encoded.shape[1]), padded(lengths, a.tokens)
    return build(a).decode(encoded, visible, token, decoded, targets, evidence)

  arrays = (encoded, encoded_lengths, token, first, lengths, evidence)
  ours = predict(*(None if array is None else jnp.asarray(array) for array in arrays))
  assert ours.dtype == jnp.float32
  for i, m in enumerate(lengths):
    f = None if evidence is None else evidence[i, :m].astype(np.float64)
    theirs = ref_decode(a, params, encoded[i, : encoded_lengths[i]].astype(np.float64), token[i, :m], f)[first[i] :]
    np.testing.assert_allclose(ours[i, : len(theirs)], theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())


def ref_evidence(a: Architecture, z: np.ndarray, shown: np.ndarray) -> np.ndarray:
  """aim/model/interpolation_skip.py for one window: z and shown [steps, channels] -> [steps, channels, features]."""
  steps = len(z)
  out = np.zeros((*z.shape, interpolation_skip.FEATURES[a.skip_evidence]))
  logit = lambda p: math.log(min(max(p, 0.02), 0.98) / (1 - min(max(p, 0.02), 0.98)))
  for c in range(a.channels):
    times = np.flatnonzero(shown[:, c])
    for s in range(steps):
      if len(times):
        line_and_level = np.interp(s, times, z[times, c]), z[times, c].mean()
        out[s, c, :2] = [logit(x) for x in line_and_level] if a.binary[c] else line_and_level
      before, after = times[times <= s], times[times >= s]
      out[s, c, 2] = 1 / (1 + (s - before[-1]) / (steps / 24)) if len(before) else 0
      out[s, c, 3] = 1 / (1 + (after[0] - s) / (steps / 24)) if len(after) else 0
      if a.skip_evidence == "smooth":
        distances = [max(d, 0.1) * 1440 / steps for d in [*(s - before[-1:]), *(after[:1] - s)]]
        minutes = 1 / sum(1 / d for d in distances) if distances else math.inf
        out[s, c, 4] = math.log(min(max(minutes / 30, 0.01), 48))
  if a.skip_evidence == "smooth":
    # tests/model/test_interpolation.py has slow versions of these.
    known = jnp.asarray(shown)[None]
    read = jnp.where(known, jnp.asarray(z, jnp.float32), 0)
    curves = [interpolation.cubic(read, known), *(interpolation.local_mean(read, known, m) for m in (10, 30))]
    for i, curve in enumerate(np.asarray(curves)[:, 0], start=5):
      out[..., i] = np.where(np.array(a.binary), np.vectorize(logit)(curve), curve) * shown.any(0)
  return out


@pytest.mark.parametrize(
  ("a", "tokens", "groups"),
  [
    (PLAIN, "all", None),
    (SMOOTH, "all", 2),
    (AFTER, "all", 2),
    (SKIP, "observed", None),
    (FLAGS, "observed", 1),
    (SKIP, "refined", None),
    (FLAGS, "refined", 2),
    (FLAGS, "visible", 0),
    (SKIP, "visible", 2),
    (AFTER, "visible", 0),
  ],
)
def test_whole_forward_pass_is_the_reference(a, tokens, groups):
  """From masked days to predictions, at every position (textbook) or at the targets, in padded and packed buffers."""
  a, kind = decoder(a, tokens), tokens
  params = {name: np.asarray(leaf, np.float64) for name, leaf in random_parameters(a).items()}
  rng = np.random.default_rng(8)
  z = rng.normal(size=(4, 32, 3)).astype(np.float32)
  z[:, :, 1] = z[:, :, 1] > 0
  observed = rng.random(z.shape) < 0.7
  observed[1, :, 2] = False
  hidden = np.repeat(rng.random((4, 24, 1)) < 0.5, 4, axis=2) | (rng.random((4, 24, 4)) < 0.1)
  shuffle = rng.random((4, 24)).astype(np.float32)
  arrays = (jnp.asarray(z), jnp.asarray(observed), 4, jnp.asarray(hidden), jnp.asarray(shuffle))
  tokens = sorted_token_set(tiny.masking(weights=(1.0,) * 4, min_observed_share=0.0), *arrays)
  a_group = 4 // groups if groups else 1
  buffers = BufferSizes(groups or 0, 20 * a_group, 24 * a_group, 23 * a_group, 24, 20, kind)
  buffers = buffer_sizes.textbook(24, 4, kind) if groups is None else buffers
  predict = jax.jit(lambda tokens: loss.forward(build(a), tokens, buffers, buffers.target_buffer(tokens)))
  prediction = np.asarray(predict(tokens))
  tokens, targets = jax.tree.map(np.asarray, tokens), buffers.target_buffer(tokens)
  first, lengths, starts = (np.asarray(x).reshape(-1) for x in (targets.first, targets.lengths, targets.starts))
  assert tokens.visible_lengths.max() <= 20 and (tokens.target_ends < 24).any() and lengths.max() <= 23 + (not groups)
  assert (tokens.target_starts < tokens.visible_lengths).any(), "no token is visible in part"
  hidden = hidden.reshape(4, 3, 32).transpose(0, 2, 1)
  for i, k in enumerate(tokens.visible_lengths):
    m = tokens.target_ends[i] if kind in ("observed", "refined") else 24
    evidence = None
    if a.interpolation_skip:
      grid = ref_evidence(a, z[i].astype(np.float64), observed[i] & ~hidden[i])
      evidence = np.array([[grid[n % 8 * 4 + p, n // 8] for p in range(4)] for n in tokens.order[i, :m]])
    encoded = ref_encode(a, params, tokens.values[i, :k].astype(np.float64), tokens.visible[i, :k], tokens.order[i, :k])
    theirs = ref_decode(a, params, encoded, tokens.order[i, :m], evidence)[first[i] : first[i] + lengths[i]]
    ours = prediction[i // a_group, starts[i] : starts[i] + lengths[i]]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-5 * np.abs(theirs).max())


def test_sincos_by_hand():
  # Width 4: w = 1, 10000^-0.5 = 0.01.
  by_hand = [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]
  np.testing.assert_allclose(sincos(jnp.int32(3), 4), by_hand, atol=1e-6)
  # With 12 patches per day, token 143 is channel 11, time 11, and token 25 is channel 2, time 1. The channel's half
  # comes first, and a patch of two hours counts as twelve of ten minutes.
  ours = token_positions(jnp.array([[143, 25]], jnp.int32), 12, 8, tuple(range(12)))[0]
  half = lambda p: [math.sin(p), math.sin(p / 100), math.cos(p), math.cos(p / 100)]
  np.testing.assert_allclose(ours, [half(11) + half(132), half(2) + half(12)], atol=2e-5)
  # Patches of ten minutes, as published, count one by one.
  published = token_positions(jnp.array([[144 * 3 + 100]], jnp.int32), 144, 8, tuple(range(4)))[0]
  np.testing.assert_allclose(published, [half(3) + half(100)], atol=2e-5)


@pytest.mark.parametrize(("platform", "computed"), [("cpu", False), ("tpu", True)])
def test_the_table_of_positions_is_a_constant_on_cpus_alone(platform, computed):
  """A program for a TPU slice that is elsewhere is compiled where none of its devices can compute a table."""
  values, shown, token, lengths = map(jnp.asarray, sets(FLAGS)[:4])
  with devices.target_platform(platform):
    run = lambda x: build(FLAGS).encode(x, shown, token, padded(lengths, FLAGS.tokens))
    program = str(jax.make_jaxpr(run)(values))
  assert (" sin " in program) == computed


def test_places_in_order_are_the_published_code():
  token = jnp.arange(3 * 12)[None]
  by_index = jnp.concatenate([sincos(token // 12, 8), sincos(token % 12 * 12.0, 8)], axis=-1)
  np.testing.assert_array_equal(token_positions(token, 12, 16, (0, 1, 2)), by_index)
  moved = token_positions(token, 12, 16, (5, 0, 40))[0].reshape(3, 12, 16)
  np.testing.assert_array_equal(moved[:, 0, :8], sincos(jnp.array([5, 0, 40]), 8))
  np.testing.assert_array_equal(moved[..., 8:], by_index[0].reshape(3, 12, 16)[..., 8:])


def test_a_channel_among_the_others_moves_none_of_them():
  """A day that has nothing of a channel in the middle is the day without that channel, to the bit."""
  z, observed = day_of_three()
  few = dataclasses.replace(FLAGS, places=(4, 9, 2))
  many = dataclasses.replace(FLAGS, channels=4, places=(4, 30, 9, 2), binary=(False,) * 4)
  absent = lambda x: jnp.insert(x, 1, 0, axis=2)
  buffers = BufferSizes(0, 24, 32, 24, 32, 32, "all")

  def encoded(a, z, observed):
    tokens = evaluation_token_set(tiny.masking((1, 1, 1, 1)), z, observed, a.patch)
    rows = buffers.visible_buffer(tokens)
    return build(a).encode(rows.take(tokens.values), rows.take(tokens.visible), rows.take(tokens.order), rows), tokens

  (ours, ours_tokens), (theirs, tokens) = encoded(many, absent(z), absent(observed)), encoded(few, z, observed)
  np.testing.assert_array_equal(ours_tokens.visible_lengths, tokens.visible_lengths)
  for i, length in enumerate(tokens.visible_lengths):
    assert length > 8
    np.testing.assert_array_equal(ours[i, :length], theirs[i, :length])
  in_order = dataclasses.replace(many, places=(0, 1, 2, 3))
  assert not np.allclose(encoded(in_order, absent(z), absent(observed))[0][0, :8], theirs[0, :8], atol=1e-3)


def day_of_three(seed: int = 5):
  """Two windows of three channels with holes: z and observed [2, 32, 3]."""
  rng = np.random.default_rng(seed)
  observed = rng.random((2, 32, 3)) < 0.7
  return jnp.asarray(np.where(observed, rng.normal(size=observed.shape), 0), jnp.float32), jnp.asarray(observed)


def test_queries_and_keys_start_alike_only_with_qk_init():
  block = lambda a: lsm2.TransformerBlock(a.encoder, a, nnx.Rngs(0))
  blocks = (block(dataclasses.replace(FLAGS, qk_init=qk_init)) for qk_init in (0.25, 0.0))
  alike, apart = (block.attention.qkv.kernel.get_value() for block in blocks)
  np.testing.assert_array_equal(alike[:, 0], alike[:, 1])
  assert abs(float(alike[:, 0].std()) - 0.25) < 0.05 and abs(float(alike[:, 2].std()) - 0.02) < 0.01
  assert not np.array_equal(apart[:, 0], apart[:, 1]) and abs(float(apart[:, 0].std()) - 0.02) < 0.01


# What must not matter.


def test_padding_changes_nothing():
  """A longer set with the same tokens in front gives the same to 1e-6, since sums run in another order."""
  values, shown, token, lengths, _ = sets(FLAGS)
  network, k = build(FLAGS), int(lengths.max())
  long = encode(network, values, shown, token, lengths)
  short = encode(network, values[:, :k], shown[:, :k], token[:, :k], lengths)
  dirty_values, dirty_shown, dirty_token = values.copy(), shown.copy(), token.copy()
  past = np.arange(FLAGS.tokens) >= lengths[:, None]
  dirty_values[past], dirty_shown[past], dirty_token[past] = 3.0, True, 0
  dirty = encode(network, dirty_values, dirty_shown, dirty_token, lengths)
  unread = encode(network, np.where(shown, values, np.nan).astype(np.float32), shown, token, lengths)
  for i, length in enumerate(lengths):
    np.testing.assert_allclose(short[i, :length], long[i, :length], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(dirty[i, :length], long[i, :length])
    np.testing.assert_array_equal(unread[i, :length], long[i, :length])


def test_permuting_tokens_with_their_positions_permutes_the_output():
  """To 1e-6 in the encoder and 1e-5 in the prediction, because sums over keys run in another order."""
  values, shown, token, lengths, decoder_lengths = sets(FLAGS)
  network, rng = build(FLAGS), np.random.default_rng(4)
  swap = np.tile(np.arange(FLAGS.tokens), (3, 1))
  for row, k, m in zip(swap, lengths, decoder_lengths, strict=True):
    row[:k] = rng.permutation(row[:k])
    row[k:m] = rng.permutation(row[k:m])
  take = lambda x: np.take_along_axis(x, swap if x.ndim == 2 else swap[:, :, None], axis=1)
  plain, swapped = (
    encode(network, values, shown, token, lengths),
    encode(network, *map(take, (values, shown, token)), lengths),
  )
  decode = lambda x, t: np.asarray(_decode(network, *map(jnp.asarray, (x, lengths, t, decoder_lengths))))
  prediction, swapped_prediction = decode(plain, token), decode(swapped, take(token))
  for i, (k, m) in enumerate(zip(lengths, decoder_lengths, strict=True)):
    np.testing.assert_allclose(swapped[i, :k], take(plain)[i, :k], rtol=0, atol=1e-6)
    np.testing.assert_allclose(swapped_prediction[i, :m], take(prediction)[i, :m], rtol=0, atol=1e-5)
  assert np.abs(swapped[:, : lengths.min()] - plain[:, : lengths.min()]).max() > 1e-3, "positions do not matter"


@pytest.mark.parametrize(
  ("a", "tokens", "share", "groups"),
  [
    (PLAIN, "all", 0.0, None),
    (SKIP, "all", 1.0, None),
    (SMOOTH, "all", 0.0, 2),
    (FLAGS, "observed", 0.0, 2),
    (FLAGS, "refined", 1.0, 2),
    (SKIP, "visible", 0.0, None),
    (SMOOTH, "visible", 1.0, 1),
  ],
)
def test_nothing_hidden_leaks_by_a_bit(a, tokens, share, groups):
  """Replacing hidden and unobserved values changes encoder output and prediction by no bit."""
  a_group = 4 // groups if groups else 1
  buffers = BufferSizes(groups or 0, 24 * a_group, 24 * a_group, 24 * a_group, 24, 24, tokens)
  buffers, a = buffer_sizes.textbook(24, 0, tokens) if groups is None else buffers, decoder(a, tokens)
  rng = np.random.default_rng(5)
  z = rng.normal(size=(4, 32, 3)).astype(np.float32)
  z[:, :, 1] = z[:, :, 1] > 0
  observed = rng.random(z.shape) < np.array([1.0, 0.95, 0.6, 0.0])[:, None, None]
  hidden = rng.random((4, 24, 4)) < 0.3
  hidden[0] = True  # the first window has no visible value left, and the last one never had any
  masking = tiny.masking(weights=(1.0,) * len(STRATEGIES), min_observed_share=share)
  shuffle = jnp.asarray(rng.random((4, 24)), jnp.float32)
  network = build(a)

  @jax.jit
  def outputs(z):
    tokens = sorted_token_set(masking, z, jnp.asarray(observed), 4, jnp.asarray(hidden), shuffle)
    rows, targets = buffers.visible_buffer(tokens), buffers.target_buffer(tokens)
    encoded = network.encode(rows.take(tokens.values), rows.take(tokens.visible), rows.take(tokens.order), rows)
    return tokens, encoded, loss.forward(network, tokens, buffers, targets)

  tokens, encoded, prediction = outputs(jnp.asarray(z))
  assert tokens.target.any() and np.isfinite(prediction).all()
  shown = np.zeros(z.shape, bool)
  for i, order in enumerate(np.asarray(tokens.order)):
    for place, n in enumerate(order):
      shown[i, n % 8 * 4 : n % 8 * 4 + 4, n // 8] = tokens.visible[i, place]
  assert not shown[0].any() and shown[1:3].any((1, 2)).all() and not shown[3].any()
  for garbage in (1e30, -1.0, np.nan):
    _, other_encoded, other_prediction = outputs(jnp.asarray(np.where(shown, z, np.float32(garbage))))
    np.testing.assert_array_equal(other_encoded, encoded)
    np.testing.assert_array_equal(other_prediction, prediction)
  changed = (outputs(jnp.asarray(np.where(shown, z + np.float32(0.5), z)))[2] != prediction).any((1, 2))
  assert changed[1:3].all() if len(changed) == 4 else changed.all(), "visible values are not read either"


def test_attention_sees_its_prefix_alone():
  rng = np.random.default_rng(6)
  q, k, v = (rng.normal(size=(2, 5, 2, 4)).astype(np.float32) for _ in range(3))
  q *= 1e3  # scores that overflow an exponential
  attend = lambda: np.asarray(padded_attention(*map(jnp.asarray, (q, k, v)), *map(jnp.asarray, lengths)))
  lengths = np.array([[5, 4], [1, 3]], np.int32)  # number of queries, number of keys
  out = attend()
  np.testing.assert_array_equal(out[0], np.broadcast_to(v[0, :1], (5, 2, 4)))
  assert np.isfinite(out).all() and not out[1, 4:].any() and out[1, :4].all()
  k[:, 3:], v[:, 3:], q[1, 4:] = 1e6, -1e6, np.nan
  np.testing.assert_array_equal(attend(), out)


# Parameters.


def hand_count(a: Architecture) -> int:
  linear = lambda i, o: i * o + o
  block = lambda t: 4 * linear(t.width, t.width) + linear(t.width, t.mlp) + linear(t.mlp, t.width) + 4 * t.width
  towers = sum(t.layers * block(t) + 2 * t.width for t in (a.encoder, a.decoder))
  ends = linear(a.patch * (1 + a.observed_flags), a.encoder.width) + linear(a.decoder.width, a.patch)
  return towers + ends + linear(a.encoder.width, a.decoder.width) + a.decoder.width


@pytest.mark.parametrize(
  ("name", "expected"),
  [("xxs", None), ("xs", None), ("base", 24_563_338)],  # LSM-2's 24.6M, observed flags included
)
def test_parameter_counts(name, expected):
  config = importlib.import_module(f"experiments.lsm2_{name}").get_config()
  a = from_config.architecture(config, LSM2_SCHEMA)
  count = lsm2.count_parameters(lsm2.abstract(a)[1])
  assert count == hand_count(a)
  assert expected is None or count == expected


def test_initial_parameters():
  _, params = lsm2.split(lsm2.Lsm2(SKIP, nnx.Rngs(0)))
  for name, leaf in jax.tree.map(np.asarray, params).items():
    assert leaf.dtype == np.float32
    if name.endswith("scale"):
      assert (leaf == 1).all()
    elif name.endswith("bias"):
      assert (leaf == 0).all()
    else:
      assert 0 < np.abs(leaf).max() <= 2 * 0.02
  kernel = params["encoder/blocks/0/attention/qkv/kernel"]
  assert kernel.shape == (16, 3, 2, 8) and not np.array_equal(kernel[:, 0], kernel[:, 1])
  assert np.std(kernel) == pytest.approx(0.88 * 0.02, rel=0.1)  # a normal distribution of SD 0.02, cut at twice that


def test_split_and_merge_are_inverse():
  params = random_parameters(SKIP)
  _, again = lsm2.split(build(SKIP))
  assert sorted(again) == sorted(params) == sorted(lsm2.abstract(SKIP)[1])
  for name, leaf in params.items():
    np.testing.assert_array_equal(leaf, again[name])


# Other ways to compute the same.


def prediction_and_gradient(a: Architecture) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """The prediction, and the gradient of the encoder's mean squared output with respect to its parameters."""
  values, shown, token, lengths, decoder_lengths = (jnp.asarray(array) for array in sets(a))
  graph = lsm2.abstract(a)[0]
  rows = padded(lengths, a.tokens)

  def squares(params):
    # Slots past a length have no meaning.
    encoded = lsm2.merge(graph, params).encode(values, shown, token, rows)
    encoded = jnp.where((jnp.arange(a.tokens) < lengths[:, None])[:, :, None], encoded, 0)
    return jnp.square(encoded.astype(jnp.float32)).mean(), encoded

  params = random_parameters(a)
  (_, encoded), gradient = jax.jit(jax.value_and_grad(squares, has_aux=True))(params)
  gradient = {name: leaf for name, leaf in gradient.items() if name.startswith(("encoder", "patch_embedding"))}
  prediction = np.asarray(_decode(build(a), encoded, lengths, token, decoder_lengths))
  prediction = np.where((np.arange(a.tokens) < decoder_lengths[:, None])[:, :, None], prediction, 0)
  return prediction, jax.tree.map(np.asarray, gradient)


def test_remat_and_bfloat16_are_the_same_function():
  """Relative to the norm: remat to 1e-5; bfloat16, with its 8-bit mantissa, to 2 % in predictions, 5 % in gradients."""
  base = dataclasses.replace(FLAGS, encoder=Tower(16, 24, 2, 1))
  exact, exact_gradient = prediction_and_gradient(base)
  distance = lambda ours, theirs: np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
  for changes, tolerance, gradient_tolerance in (({"remat": True}, 1e-5, 1e-5), ({"dtype": "bfloat16"}, 0.02, 0.05)):
    prediction, gradient = prediction_and_gradient(dataclasses.replace(base, **changes))
    assert prediction.dtype == jnp.float32
    assert distance(prediction, exact) <= tolerance
    for name, leaf in gradient.items():
      assert leaf.dtype == jnp.float32
      assert distance(leaf, exact_gradient[name]) <= gradient_tolerance, name
    assert "remat" in changes or distance(prediction, exact) > 1e-4, "bfloat16 has no effect: computed in float32"


@pytest.mark.parametrize(
  ("tokens", "targets", "evidence"),
  [
    ("all", 128, ""),
    ("all", 40, ""),
    ("visible", 40, "line"),
    ("refined", 40, "line"),
    ("all", 40, "smooth"),
    ("all", 40, "context"),
    ("all", 40, "after"),
  ],
  ids=["textbook", "targets", "cross-attention", "refined", "smooth", "context", "after"],
)
def test_flops_by_the_compiler(tokens, targets, evidence):
  """The count by formula against XLA's, which includes softmax, norms and GELU; within a tenth at this size."""
  a = tiny.architecture(2, 64, 8, Tower(128, 512, 2, 1), Tower(128, 512, 2, 2), decoder_tokens=tokens)
  kind = {"": "line", "context": "smooth", "after": "smooth"}.get(evidence, evidence)
  a = dataclasses.replace(
    a,
    interpolation_skip=bool(evidence),
    skip_evidence=kind,
    evidence_embedding="after" if evidence == "after" else "before",
    context_days=7 * (evidence in ("context", "after")),
  )
  graph, params = lsm2.split(lsm2.Lsm2(a, nnx.Rngs(0)))
  buffers = (
    buffer_sizes.textbook(128, 0, tokens) if targets == 128 else BufferSizes(0, 128, 128, targets, 128, 128, tokens)
  )
  full = jnp.full((2,), 128, jnp.int32)

  def forward(params, values, shown, order):
    sets = TokenSet(order, values, shown, ~shown, full, full - targets, full, full)
    return loss.forward(lsm2.merge(graph, params), sets, buffers, buffers.target_buffer(sets))

  arrays = (jnp.ones((2, 128, 8)), jnp.ones((2, 128, 8), bool), jnp.zeros((2, 128), jnp.int32))
  counted = jax.jit(forward).lower(params, *arrays).compile().cost_analysis()["flops"]
  once = 2 * flops.local_mean_flops(a)  # has no backward pass
  by_hand = (flops.executed_flops(a, buffers, windows=2) - once) / 3 + once
  assert by_hand < counted < 1.1 * by_hand
  assert flops.peak_flops() is None  # these are CPUs
