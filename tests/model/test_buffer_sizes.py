"""Buffer sizes: a short ladder that every step fits in, what it costs, and that training does not depend on it."""

import dataclasses
import itertools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from aim.common.config_files import ConfigError
from aim.model import buffer_sizes, flops, from_config, lsm2
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Architecture, Tower
from aim.model.masking import TokenSet
from aim.runtime.window_balance import balanced_order
from data_pipelines.build import build, npz_request
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.npz import NpzSource
from experiments import default
from tests import tiny

# The ladder.


def counts_of(rng: np.random.Generator, windows: int, tokens: int, dropped: int) -> np.ndarray:
  """Possible token_counts [windows, 3]: visible, visible or target, target."""
  visible = rng.integers(1, tokens - dropped + 1, windows)
  scored = rng.integers(visible, tokens + 1)
  return np.stack([visible, scored, rng.integers(scored - visible, scored + 1)], axis=1)


def ref_needed(counts: np.ndarray, groups: int, accumulate: int) -> list[int]:
  most = [0, 0, 0]
  for part in range(accumulate):
    windows = [counts[i] for i in range(part, len(counts), accumulate)]
    per_group = len(windows) // groups if groups else 1
    for start in range(0, len(windows), per_group):
      most = [max(a, int(b)) for a, b in zip(most, sum(windows[start : start + per_group]), strict=True)]
  return most


steps = st.fixed_dictionaries(
  {
    "tokens": st.one_of(st.integers(2, 60), st.integers(100, 3744)),
    "dropped_share": st.floats(0, 0.9),
    "a_group": st.integers(1, 6),
    "groups": st.sampled_from([0, 1, 2, 4]),
    "accumulate": st.sampled_from([1, 2, 3]),
    "seed": st.integers(0, 2**32 - 1),
  }
)


@given(step=steps, decoder_tokens=st.sampled_from(lsm2.DECODER_TOKENS), count=st.integers(1, 6))
@examples(max_examples=15)
def test_the_ladder_is_short_and_holds_every_step(step, decoder_tokens, count):
  tokens, groups, accumulate = step["tokens"], step["groups"], step["accumulate"]
  dropped = int(step["dropped_share"] * (tokens - 1))
  windows = (groups or 1) * step["a_group"]
  a_group = step["a_group"] if groups else 1
  rng = np.random.default_rng(step["seed"])
  sample = counts_of(rng, 20, tokens, dropped)
  arguments = (tokens, dropped, decoder_tokens, windows, groups, accumulate, count)
  ladder = buffer_sizes.ladder(sample, *arguments)
  assert ladder == buffer_sizes.ladder(sample, *arguments), "processes would choose differently"
  assert 1 <= len(ladder) <= count
  rows = [(size.encoder, size.decoder, size.targets) for size in ladder]
  bound = ((tokens - dropped) * a_group, tokens * a_group, tokens * a_group)
  assert rows[-1] == bound
  unit = 128 if bound[0] >= 1024 else 8
  for small, large in itertools.pairwise(rows):
    assert small != large and all(a <= b for a, b in zip(small, large, strict=True))
  for row in rows:
    assert row[0] > 0 and all(a == b or (a <= b and a % unit == 0) for a, b in zip(row, bound, strict=True))
  for size in ladder:
    assert (size.groups, size.tokens, size.largest) == (groups, tokens, tokens - dropped)
    assert size.decoder_tokens == decoder_tokens and not size.predict_all
  # Every step, whether from the sample or not, gets the first size that holds it.
  for lengths in (sample, counts_of(rng, 20, tokens, dropped), np.full((20, 3), [tokens - dropped, tokens, tokens])):
    batch = lengths[rng.integers(20, size=windows * accumulate)]
    need = buffer_sizes.needed(batch, groups, accumulate)
    assert need.tolist() == ref_needed(batch, groups, accumulate)
    relevant = [True, decoder_tokens not in ("all", "visible"), True]
    holds = [all(a >= b for a, b, r in zip(row, need, relevant, strict=True) if r) for row in rows]
    assert holds[-1] and ladder.index(buffer_sizes.smallest(ladder, need)) == holds.index(True)


@pytest.mark.parametrize(("groups", "accumulate"), [(0, 1), (0, 3), (4, 1), (2, 2)])
def test_slots_needed_are_the_same_on_the_device(groups, accumulate):
  """Not part of the test above, because every new shape compiles."""
  counts = counts_of(np.random.default_rng(0), 12 * accumulate, 60, 20)
  on_device = buffer_sizes.needed(jnp.asarray(counts), groups, accumulate)
  assert on_device.tolist() == ref_needed(counts, groups, accumulate)


@pytest.mark.parametrize("groups", [0, 4])
def test_most_steps_take_a_small_size(groups):
  """If days are similar, hardly any step needs the largest size, and little of the buffers stays empty."""
  rng = np.random.default_rng(0)
  visible = rng.integers(300, 700, 256)
  sample = np.stack([visible, visible + 900, np.full(256, 900)], axis=1)
  ladder = buffer_sizes.ladder(sample, 3744, 0, "observed", 32, groups, 1, 6)
  chosen, empty = [], []
  for _ in range(200):
    drawn = sample[rng.integers(256, size=32)]
    need = buffer_sizes.needed(drawn[balanced_order(drawn[:, 0], groups, 1)], groups, 1)
    chosen.append(size := buffer_sizes.smallest(ladder, need))
    empty.append(1 - need[0] / size.encoder)
  assert np.mean([ladder.index(size) < len(ladder) - 1 for size in chosen]) > 0.95
  assert np.mean(empty) < 0.15


def test_textbook_is_one_size_for_every_step():
  size = buffer_sizes.textbook(3744, 1872, "all")
  assert (size.encoder, size.decoder, size.targets, size.groups) == (1872, 3744, 3744, 0) and size.predict_all
  assert buffer_sizes.smallest((size,), np.array([1872, 3744, 3744])) == size


def token_set(counts: np.ndarray, tokens: int) -> TokenSet:
  b = len(counts)
  zeros = lambda dtype: jnp.zeros((b, tokens, 1), dtype)
  visible, scored, targets = (jnp.asarray(counts[:, i], jnp.int32) for i in range(3))
  order = jnp.tile(jnp.arange(tokens, dtype=jnp.int32), (b, 1))
  present = (scored + tokens) // 2
  return TokenSet(order, zeros(jnp.float32), zeros(bool), zeros(bool), visible, scored - targets, scored, present)


@pytest.mark.parametrize("decoder_tokens", lsm2.DECODER_TOKENS)
@pytest.mark.parametrize("form", ["textbook", "trimmed", "packed"])
def test_buffers_hold_the_tokens_of_their_kind(form, decoder_tokens):
  """Visible tokens from the front, targets at their place, and in the decoder the tokens that take part in it."""
  counts = counts_of(np.random.default_rng(1), 6, 10, 3)
  tokens = token_set(counts, 10)
  np.testing.assert_array_equal(buffer_sizes.token_counts(tokens), counts)
  slots = np.asarray(buffer_sizes.slot_counts(tokens, decoder_tokens))
  need = [int(x) for x in buffer_sizes.needed(slots, 2 if form == "packed" else 0, 1)]
  size = {
    "textbook": buffer_sizes.textbook(10, 3, decoder_tokens),
    "trimmed": BufferSizes(0, *need, 10, 7, decoder_tokens),
    "packed": BufferSizes(2, *need, 10, 7, decoder_tokens),
  }[form]
  visible, scored, targets = counts.T
  span = lambda rows: (rows.first.reshape(-1).tolist(), rows.lengths.reshape(-1).tolist())
  assert span(size.visible_buffer(tokens)) == ([0] * 6, visible.tolist())
  part = {"observed": scored, "refined": scored, "present": (scored + 10) // 2}
  ends = part.get(decoder_tokens, np.full(6, 10)).tolist()
  whole = ([0] * 6, ends)
  stretch = ((scored - targets).tolist(), targets.tolist())
  assert span(size.target_buffer(tokens)) == (whole if form == "textbook" else stretch)
  apart = decoder_tokens == "visible" and form != "textbook"
  assert span(size.decoder_buffer(tokens)) == (stretch if apart else whole)
  for rows in (size.visible_buffer(tokens), size.decoder_buffer(tokens), size.target_buffer(tokens)):
    assert rows.is_padded == (form != "packed") and len(rows.lengths) == (2 if form == "packed" else 6)
    assert int((rows.starts + rows.lengths).max()) <= rows.count and int(rows.lengths.max()) <= rows.longest


# What it costs.


def architecture(decoder_tokens: str) -> Architecture:
  return tiny.architecture(2, 8, 4, Tower(16, 24, 2, 2), Tower(8, 12, 2, 2), decoder_tokens=decoder_tokens)


@pytest.mark.parametrize(
  "decoder_tokens",
  ["all", *(pytest.param(name, marks=pytest.mark.slow) for name in lsm2.DECODER_TOKENS if name != "all")],
)
@given(groups=st.sampled_from([0, 1, 2, 4]), seed=st.integers(0, 2**32 - 1))
def test_useful_flops_are_part_of_the_executed_ones(decoder_tokens, groups, seed):
  """Holds in textbook buffers, in those that just hold the step, and in the largest."""
  a = architecture(decoder_tokens)
  counts = counts_of(np.random.default_rng(seed), 8, 16, 4)
  useful = float(flops.useful_flops(a, jnp.asarray(counts)))
  need = [int(x) for x in buffer_sizes.needed(counts, groups, 1)]
  a_group = 8 // groups if groups else 1
  textbook = buffer_sizes.textbook(16, 4, decoder_tokens)
  tight = BufferSizes(groups, *need, 16, 12, decoder_tokens)
  largest = BufferSizes(groups, 12 * a_group, 16 * a_group, 16 * a_group, 16, 12, decoder_tokens)
  done = [flops.executed_flops(a, size, 8) for size in (tight, largest, textbook)]
  assert 0 < useful <= done[0] * (1 + 1e-6)
  assert done[0] <= done[1] <= done[2] * (1 + 1e-6)
  for size, executed in zip((tight, largest, textbook), done, strict=True):
    parts = flops.executed_parts(a, size, 8, counts)
    assert 8 * sum(parts.values()) == pytest.approx(executed) and 8 * parts["useful"] == pytest.approx(useful)
    assert min(parts.values()) >= -1e-6 * executed


def test_flops_of_a_compiled_step_may_exceed_32_bits():
  a = dataclasses.replace(
    tiny.architecture(26, 144, 10, Tower(16, 24, 2, 1), Tower(8, 12, 2, 1)),
    interpolation_skip=True,
    skip_evidence="smooth",
    context_days=7,
  )
  counted = jax.jit(lambda counts: flops.useful_flops(a, counts))(jnp.full((16, 3), 100))
  assert float(counted) > 16 * flops.local_mean_flops(a) > 2**32


@pytest.mark.parametrize("decoder_tokens", lsm2.DECODER_TOKENS)
def test_without_padding_and_missing_tokens_all_flops_are_useful(decoder_tokens):
  """Windows of 16 tokens, 12 visible and 4 to predict: useful equals executed, and this count by hand."""
  a = architecture(decoder_tokens)
  useful = float(flops.useful_flops(a, jnp.tile(jnp.array([12, 16, 4]), (6, 1))))
  size = BufferSizes(0, 12, 16, 4, 16, 12, decoder_tokens)
  assert flops.executed_flops(a, size, 6) == pytest.approx(useful, rel=1e-6)
  # Whoever computes more pairs executes more, in the part for them alone.
  wide = dataclasses.replace(size, groups=6, pairs=(6 * 200, 6 * 300, 6 * 100))
  parts = flops.executed_parts(a, wide, 6, np.tile([12, 16, 4], (6, 1)))
  assert parts["blocks"] > 0 and flops.executed_flops(a, wide, 6) == pytest.approx(6 * sum(parts.values()))
  per_token = lambda d, mlp: 2 * (4 * d * d + 2 * d * mlp)
  encoder = 2 * (12 * per_token(16, 24) + 4 * 12 * 12 * 16)
  # Patch embedding (values and flags), bridge, head.
  ends = 2 * 12 * (8 * 16 + 16 * 8) + 2 * 4 * 8 * 4
  if decoder_tokens == "visible":  # queries and outputs for 4, keys and values for 12, in both layers
    decoder = 2 * (4 * 2 * (2 * 8 * 8 + 2 * 8 * 12) + 12 * 2 * 2 * 8 * 8 + 4 * 4 * 12 * 8)
  elif decoder_tokens == "refined":  # as that, with queries of 16 in the first layer
    layers = [2 * queries * (2 * 8 * 8 + 2 * 8 * 12) + 4 * queries * 12 * 8 for queries in (16, 4)]
    decoder = sum(layers) + 2 * 12 * 2 * 2 * 8 * 8
  else:  # one layer for 16 tokens; the last for 4, with keys and values for 16
    decoder = 16 * per_token(8, 12) + 4 * 16 * 16 * 8
    decoder += 4 * 2 * (2 * 8 * 8 + 2 * 8 * 12) + 16 * 2 * 2 * 8 * 8 + 4 * 4 * 16 * 8
  assert useful == pytest.approx(3 * 6 * (encoder + ends + decoder), rel=1e-6)


# Choosing a form.


def test_an_unknown_form_is_one_line():
  config = default.get_config()
  a = from_config.architecture(config, LSM2_SCHEMA)
  assert from_config.form(config, dataclasses.replace(a, attention="xla")) in ("trimmed", "packed")
  for name in ("textbook", "trimmed", "packed"):
    config.form = name
    assert from_config.form(config, a) == name
  config.form = "short"
  with pytest.raises(ConfigError, match=r"config\.form is 'short', expected one of auto, textbook, trimmed, packed"):
    from_config.architecture(config, LSM2_SCHEMA)
  config.form = "trimmed"
  for count in (0, 7):
    config.sizes = count
    with pytest.raises(ConfigError, match=rf"config\.sizes is {count}, expected a whole number from 1 to 6"):
      from_config.architecture(config, LSM2_SCHEMA)


# Whole runs.


def records(workdir) -> list[dict]:
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "devices"), [("trimmed", 1), ("packed", 2)])
def test_nothing_is_compiled_during_a_run(tmp_path, form, devices):
  """Sixty steps that need several sizes."""
  days = tiny.dataset(tmp_path, people=24)
  changes = {"total_steps": 60, "log__every_steps": 5, "sizes": 3, "checkpoint__every_steps": 20, "batch_size": 8}
  changes |= {
    "form": form,
    "optimizer__accumulate": 2,
    "model__decoder__tokens": "observed",
    "model__patch_minutes": 60,
  }
  flags = [f"--config={tiny.CONFIG}", *tiny.on(days), *tiny.overrides(**changes)]
  ended = tiny.run(*flags, f"--workdir={tmp_path}/run", devices=devices)
  assert ended.code == 0, ended.err
  lines = records(tmp_path / "run")
  counts = [line["compilations"] for line in lines]
  assert len(counts) == 12 and counts[0] >= 4
  # With several devices, the first save compiles slices of replicated arrays, as each device writes a part. It is after
  # step 20, whose line (the fourth) is written before the save starts.
  assert len(set(counts[:4])) == len(set(counts[4:])) == 1
  assert devices > 1 or counts[3] == counts[4]
  work = [round(line["executed_gflops_per_second"] * line["seconds_per_step"], 9) for line in lines]
  assert len(set(work)) > 1, "one size was enough for every step"


@pytest.fixture(scope="module")
def real_days(shared_data, tmp_path_factory):
  """Flags for runs on 199 days of 4 channels at five-minute steps, in which people took the sensors off."""
  source = NpzSource(shared_data / "mss.npz")
  days = build(source, tmp_path_factory.mktemp("real"), "mss", request=npz_request(shared_data / "mss.npz"))
  return ["--config=experiments/real_days.py", *tiny.on(days)]


ON_REAL_DAYS = {"batch_size": 8, "optimizer.accumulate": 1}  # one buffer for all eight windows, whose sizes differ


@pytest.mark.slow
def test_nothing_is_compiled_during_a_long_run_on_real_days(real_days, tmp_path):
  changes = ON_REAL_DAYS | {"total_steps": 500, "log.every_steps": 20, "form": "packed", "sizes": 4}
  flags = [f"--config.{key}={value}" for key, value in changes.items()]
  ended = tiny.run(*real_days, *flags, f"--workdir={tmp_path}")
  assert ended.code == 0, ended.err
  assert re.search(r"[234]/[234]", ended.err.split("compiling the step")[-1]), "there is only one size to choose from"
  lines = records(tmp_path)
  assert len(lines) == 25 and len({line["compilations"] for line in lines}) == 1
  assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.slow
def test_every_form_trains_alike_on_real_days(real_days, tmp_path):
  """After two hundred steps the mean loss of the last ten differs by less than a thousandth."""
  last = {}
  for form in ("textbook", "trimmed", "packed"):
    changes = ON_REAL_DAYS | {"total_steps": 200, "log.every_steps": 10, "form": form}
    flags = [f"--config.{key}={value}" for key, value in changes.items()]
    ended = tiny.run(*real_days, *flags, f"--workdir={tmp_path}/{form}")
    assert ended.code == 0, ended.err
    last[form] = records(tmp_path / form)[-1]
  for form in ("trimmed", "packed"):
    assert last[form]["loss"] == pytest.approx(last["textbook"]["loss"], rel=1e-3)
    assert last[form]["padding_share"] <= last["textbook"]["padding_share"]
  # One of eight windows is nearly always visible as a whole, so trimming alone saves nothing here.
  assert last["packed"]["padding_share"] < 0.8 * last["textbook"]["padding_share"]
  assert last["packed"]["useful_flops_share"] > 1.1 * last["textbook"]["useful_flops_share"]
