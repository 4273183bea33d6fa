"""Training cost of channels that a data set lacks: days of 3 channels in a schema of 11, against one of 3.

  python -m benchmarks.absent_channels [--output=benchmarks/results/absent_channels.csv]

The days are made up (a daily rhythm, a third of it missing in blocks of an hour), at five-minute steps; the config is
real_days. Variants take turns, one step each per round. Tokens are those that are visible or predicted, of which the
same days have as many in every schema. About three minutes on 2 cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags
from jaxtyping import Float

from aim.common.tables import write_rows
from aim.model import buffer_sizes, flops, from_config
from aim.model.patches import Scale
from aim.runtime import compile_options
from aim.training.masked_step import MaskedStep
from aim.training.optimizer import make_optimizer
from data_pipelines.schema import Channel, Schema
from experiments import real_days

ROUNDS = flags.DEFINE_integer("rounds", 40, "Steps of each variant.", lower_bound=3)
BATCH = flags.DEFINE_integer("batch", 16, "Days per step.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/absent_channels.csv", "Where to write the table.")

PRESENT, STEPS, BATCHES = 3, 288, 8
VARIANTS = ((PRESENT, "all"), (11, "present"), (11, "all"))


def made_up_days(days: int, channels: int) -> Float[np.ndarray, "days steps channels"]:
  """The same days of PRESENT channels, among others that are never observed."""
  rng = np.random.default_rng(0)
  clock = 2 * np.pi * np.arange(STEPS) / STEPS
  shift = rng.uniform(0, 1, (days, 1, PRESENT))
  values = np.sin(clock[None, :, None] + shift) + rng.normal(0, 0.3, (days, STEPS, PRESENT))
  values[(rng.random((days, STEPS // 12, PRESENT)) < 1 / 3).repeat(12, axis=1)] = np.nan
  return np.pad(values, ((0, 0), (0, 0), (0, channels - PRESENT)), constant_values=np.nan).astype(np.float32)


def variant(channels: int, decoder_tokens: str) -> tuple[dict[str, Any], Callable[[int], tuple[float, float, int]]]:
  """A row about a compiled step, and the step: batch number -> seconds to draw, seconds to train, tokens."""
  config = real_days.get_config()
  config.update_from_flattened_dict(
    {"batch_size": BATCH.value, "optimizer.accumulate": 1, "model.decoder.tokens": decoder_tokens}
  )
  schema = Schema(5, tuple(Channel(f"c{i}") for i in range(channels)))
  a = from_config.architecture(config, schema)
  form, ones = from_config.form(config, a), np.ones(channels)
  step = MaskedStep(
    a,
    from_config.masking(config, schema),
    Scale.from_statistics(schema, {"mean": 0 * ones, "std": ones, "min": -ones, "max": ones}),
    make_optimizer(config.optimizer, config.total_steps),
    accumulate=1,
    groups=int(form == "packed"),
    ema=0.0,
    impute="none",
  )
  days = made_up_days(BATCHES * BATCH.value, channels).reshape(BATCHES, BATCH.value, STEPS, channels)
  draw, key = jax.jit(step.draw), jax.random.key(0)
  counts = np.concatenate([draw(key, 1000 + i, batch)[2] for i, batch in enumerate(days)])
  dropped = step.masking.dropped_count(channels, a.length)
  sizes = buffer_sizes.ladder(counts, a.tokens, dropped, decoder_tokens, BATCH.value, step.groups, 1, config.sizes)
  train = jax.jit(step.train, static_argnums=0, donate_argnums=1, compiler_options=compile_options.compiler_options())
  state = step.init(key)
  tokens = draw(key, 0, days[0])[0]
  programs = {size: train.lower(size, state, tokens).compile() for size in sizes}

  def run(i: int) -> tuple[float, float, int]:
    nonlocal state
    began = time.perf_counter()
    tokens, needed, _ = jax.block_until_ready(draw(key, i, days[i % BATCHES]))
    drawn = time.perf_counter()
    state, metrics = programs[buffer_sizes.smallest(sizes, np.asarray(needed))](state, tokens)
    jax.block_until_ready(state)
    return drawn - began, time.perf_counter() - drawn, int(metrics["scored_tokens"])

  gflops = flops.executed_flops(a, sizes[0], BATCH.value) / 1e9
  row = {"channels": channels, "decoder": decoder_tokens, "form": form, "attention": a.attention}
  return row | {"executed_gflops": round(gflops, 2)}, run


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  rows, steps = zip(*(variant(*chosen) for chosen in VARIANTS), strict=True)
  measured = [[run(i) for run in steps] for i in range(ROUNDS.value)][1:]
  for i, row in enumerate(rows):
    draws, trainings, tokens = (np.array(values, float) for values in zip(*(turn[i] for turn in measured), strict=True))
    row["draw_ms"], row["step_ms"] = (round(1000 * float(np.median(seconds)), 2) for seconds in (draws, trainings))
    row["tokens_per_step"] = round(float(tokens.mean()))
    row["tokens_per_second"] = round(float(tokens.mean() / np.median(draws + trainings)))
    row["step_against_3_channels"] = round(row["step_ms"] / rows[0]["step_ms"], 2)
    print(", ".join(f"{name} {value}" for name, value in row.items()))
  write_rows(OUTPUT.value, list(rows[0]), [list(row.values()) for row in rows])
  print(f"wrote {OUTPUT.value}")


if __name__ == "__main__":
  app.run(main)
