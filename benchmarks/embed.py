"""Days embedded and imputed per second, by static buckets of observed tokens and by the dense path over all tokens.

  python -m benchmarks.embed [--layouts=xs:64,lsm2:4] [--output=benchmarks/results/embed.csv]

The weights are untrained, because speed does not depend on them. Both paths run in this process, in turns, on the same
simulated days, and their embeddings are compared.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from aim.inference.pretrained import Pretrained
from aim.model import lsm2
from aim.model.lsm2 import pooled
from aim.model.masking import evaluation_token_set
from aim.model.token_buffers import TokenBuffer
from aim.runtime import compile_options
from aim.training import checkpoint
from benchmarks import workers
from data_pipelines.schema import Schema
from data_pipelines.simulator import Simulation

LAYOUTS = flags.DEFINE_list("layouts", ["xs:64", "lsm2:4"], "Layout and days to embed, as layout:days.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Rounds.", lower_bound=3)
DTYPE = flags.DEFINE_string("dtype", "auto", "Compute type.")
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/embed.csv", "Where to write the table.")


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  rows: list[dict[str, Any]] = []
  for place in LAYOUTS.value:
    layout, count = place.split(":")
    rows += measure(layout, int(count))
  workers.write_csv(OUTPUT.value, rows)
  print(f"wrote {OUTPUT.value}")


def measure(layout: str, count: int) -> list[dict[str, Any]]:
  """One row of the table per path, for `count` days."""
  step, days, config = workers.make_step(layout, {"model.dtype": DTYPE.value})
  days = days[:count]
  source = Simulation(participants=1, days=1, seed=0)
  schema = Schema(source.schema.minutes_per_step, source.schema.channels[: days.shape[2]])
  params = jax.jit(step.init)(jax.random.key(0))["params"]
  trained = Pretrained(checkpoint.Restored(config, schema, step.scale, step.architecture, params, 0), batch_size=16)
  plain, dense = dense_embedder(trained, "xla"), dense_embedder(trained, trained.architecture.attention)
  paths: dict[str, Callable[[], np.ndarray]] = {
    "embed, dense": lambda: plain(days),
    "embed, dense but for attention": lambda: dense(days),
    "embed, compact": lambda: trained.embed(days),
    "impute, compact": lambda: trained.impute(days),
  }
  results = {name: path() for name, path in paths.items()}  # compiles
  seconds: dict[str, list[float]] = {name: [] for name in paths}
  for _ in range(REPEATS.value):
    for name, path in paths.items():
      began = time.perf_counter()
      path()
      seconds[name].append(time.perf_counter() - began)
  exact, compact = results["embed, dense"], results["embed, compact"]
  difference = np.abs(exact - compact).max() / np.abs(exact).max()
  tokens = step.architecture.tokens
  a = step.architecture
  print(
    f"{layout}: {count} days of {tokens} tokens, {a.attention} attention, {a.dtype}; "
    f"largest difference {difference:.1e}"
  )
  rows = []
  for name, times in seconds.items():
    median = statistics.median(times)
    row = {"name": name, "framework": "jax", "dtype": a.dtype, "layout": layout, "tokens": tokens, "batch": count}
    row |= {"median_s": median, "min_s": min(times), "max_s": max(times), "repeats": len(times)}
    rows.append(row | {"windows_per_second": count / median})
    print(f"  {name}: {count / median:.1f} days/s")
  ratio = statistics.median(seconds["embed, dense"]) / statistics.median(seconds["embed, compact"])
  print(f"  compact embeds {ratio:.2f}x as fast")
  return rows


def dense_embedder(trained: Pretrained, attention: str) -> Callable[[np.ndarray], np.ndarray]:
  """A function that embeds days as the paper does: all N tokens go through the encoder, missing ones masked as keys.

  The native attention kernel skips missing tokens anyway, so with it everything but attention is dense.
  """
  a = dataclasses.replace(trained.architecture, attention=attention)
  graph = lsm2.abstract(a)[0]

  @functools.partial(jax.jit, compiler_options=compile_options.compiler_options())
  def embed(params: dict[str, jax.Array], values: jax.Array) -> jax.Array:
    tokens = evaluation_token_set(trained.masking, *trained.scale.normalise(values), a.patch)
    lengths = tokens.visible_lengths
    rows = TokenBuffer.padded(jnp.zeros_like(lengths), lengths, a.tokens)
    encoded = lsm2.merge(graph, params).encode(tokens.values, tokens.visible, tokens.order, rows)
    return pooled(encoded.astype(jnp.float32), lengths, "mean")

  starts = lambda days: range(0, len(days), trained.batch_size)
  return lambda days: np.concatenate([embed(trained.params, days[i : i + trained.batch_size]) for i in starts(days)])


if __name__ == "__main__":
  app.run(main)
