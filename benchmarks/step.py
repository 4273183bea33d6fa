"""Our training step in all forms, attention backends, compute types and decoders, and its growth with tokens and batch.

  python -m benchmarks.step [--quick] [--output=benchmarks/results/step.csv]
  python -m benchmarks.step --growth [--output=benchmarks/results/growth.csv]

All variants take turns, one step each per round (benchmarks/workers.py). --quick takes under five minutes on 2 cores.
--growth times the compact XS step with 1,008 to 8,064 tokens and several batches, fits exponents, draws <output>.png.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import workers
from benchmarks.tables import print_table

QUICK = flags.DEFINE_boolean("quick", False, "Fewer variants, batches and rounds.")
GROWTH = flags.DEFINE_boolean("growth", False, "Measure growth with tokens and batch instead.")
OUTPUT = flags.DEFINE_string("output", None, "Where to write the table.")
REPEATS = flags.DEFINE_integer("repeats", 7, "Rounds.", lower_bound=3)
LAYOUTS = flags.DEFINE_list("layouts", ["xs:16", "lsm2:3"], "Layout and windows per step, as layout:batch.")
BACKENDS = flags.DEFINE_list("backends", ["native", "xla"], "Attention backends of the platform.")

Row = dict[str, Any]
CHANNELS_AND_MINUTES = ("7x10", "14x10", "28x10", "28x5")  # 1,008 to 8,064 tokens


def variant(form: str, backend: str, dtype: str, tokens: str = "all") -> Row:
  """The spec of one variant (benchmarks/workers.py)."""
  options = {"model.attention": backend, "model.decoder.tokens": tokens}
  name = f"{form}, {backend}, {dtype}, decoder {tokens}"
  return {"name": name, "framework": "jax", "form": form, "dtype": dtype, "options": options}


def variants(quick: bool) -> list[Row]:
  """Specs of all variants; the first is the reference."""
  backend, *others = BACKENDS.value
  specs = [variant(form, backend, "bfloat16") for form in ("textbook", "trimmed", "packed")]
  specs += [variant("packed", backend, "bfloat16", tokens) for tokens in ("observed", "refined", "visible")]
  if not quick:
    specs += [variant(form, backend, "float32") for form in ("textbook", "trimmed", "packed")]
    specs += [variant(form, other, "float32") for other, form in itertools.product(others, ("textbook", "trimmed"))]
    specs += [variant("packed", backend, "float32", "visible")]
  return specs


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  rows = growth() if GROWTH.value else forms()
  output = OUTPUT.value or f"benchmarks/results/{'growth' if GROWTH.value else 'step'}.csv"
  workers.write_csv(output, rows)
  print(f"wrote {output}")
  if GROWTH.value:
    draw(rows, pathlib.Path(output).with_suffix(".png"))


def forms() -> list[Row]:
  """Rows of all variants on all layouts."""
  rows: list[Row] = []
  for place in ["xs:16", "lsm2:1"] if QUICK.value else LAYOUTS.value:
    layout, batch = place.split(":")
    specs = variants(QUICK.value)
    if QUICK.value:
      specs = [spec | {"batches": 1} for spec in (specs if layout == "xs" else specs[::2])]
    repeats = (5 if layout == "xs" else 3) if QUICK.value else REPEATS.value
    measured = workers.measure(specs, layout, int(batch), repeats, together=QUICK.value)
    print_table(measured)
    speed = {row["name"]: row["windows_per_second"] for row in measured if not row["error"]}
    reference = next(iter(speed))
    for name in list(speed)[1:]:
      print(f"{name}: {speed[name] / speed[reference]:.2f}x {reference}")
    rows += measured
  return rows


def growth() -> list[Row]:
  """Rows of the compact step over tokens, with 4 windows per step, then over batch, with 2,016 tokens."""
  spec = variant("auto", "auto", "bfloat16")
  rows = []
  for layout, batch in [(layout, 4) for layout in CHANNELS_AND_MINUTES] + [("14x10", batch) for batch in (1, 8, 32)]:
    (row,) = workers.measure([spec], layout, batch, REPEATS.value)
    if row["error"]:
      raise workers.Failure(row["error"])
    print(f"{row['tokens']} tokens, {batch} windows per step: {row['median_s']:.3f} s", flush=True)
    rows.append(row)
  return rows


def draw(rows: Sequence[Row], path: pathlib.Path) -> None:
  """Draws the step time over tokens and over batch, with the growth that the executed FLOPs predict."""
  import matplotlib

  matplotlib.use("agg")
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
  over_tokens = [row for row in rows if row["batch"] == 4]
  over_batch = sorted((row for row in rows if row["layout"] == "14x10"), key=lambda row: row["batch"])
  for axis, chosen, key, what in (
    (axes[0], over_tokens, "tokens", "tokens per day"),
    (axes[1], over_batch, "batch", "windows per step"),
  ):
    x, y = (np.array([float(row[name]) for row in chosen]) for name in (key, "median_s"))
    work = np.array([float(row["executed_gflops"]) for row in chosen])
    slopes = [np.polyfit(np.log(x), np.log(values), 1)[0] for values in (y, work)]
    axis.loglog(x, y, "o-", label=f"measured, exponent {slopes[0]:.2f}")
    axis.loglog(x, work / work[0] * y[0], "--", label=f"FLOPs, exponent {slopes[1]:.2f}")
    axis.set(xlabel=what, ylabel="seconds per step")
    axis.set_xticks(x, [f"{value:.0f}" for value in x], minor=False)
    axis.minorticks_off()
    axis.legend(frameon=False)
    print(f"growth with {what}: time^{slopes[0]:.2f}, FLOPs^{slopes[1]:.2f}")
  figure.savefig(path, dpi=150)
  print(f"wrote {path}")


if __name__ == "__main__":
  app.run(main)
