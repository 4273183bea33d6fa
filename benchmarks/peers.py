"""Our training step against PyTorch's, side by side in one run, with the same function, batches and initial weights.

  python -m benchmarks.peers [--quick] [--output=benchmarks/results/peers.csv]

Ours is the textbook form, the compact form with the published ("exact") decoder, and the compact form with the other
decoders; PyTorch's are AIM in textbook form, eager and compiled, and the strongest form we could write
(benchmarks/torch_aim.py). All take turns, one step each per round. --quick measures fewer batches, rounds and
competitors, in under five minutes on 2 cores.

The stored tables in benchmarks/results were made with these flags (docs/results/step_speed.md):

- peers_xs.csv: --layouts=xs:16 --repeats=7
- peers_lsm2.csv: --layouts=lsm2:2 --repeats=5 --batches=2 --only=..., with the names in its first column
- peers_amx_xs.csv, peers_amx_lsm2.csv: as docs/results/step_speed.md says, on a CPU with AMX
- peers_quick.csv: --quick
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import app, flags

from benchmarks import workers
from benchmarks.tables import print_table

QUICK = flags.DEFINE_boolean("quick", False, "Fewer batches, rounds and competitors.")
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/peers.csv", "Where to write the table.")
BATCHES = flags.DEFINE_integer(
  "batches", workers.BATCHES, "Different batches, each used once before the first round.", 1
)
REPEATS = flags.DEFINE_integer("repeats", 7, "Rounds.", lower_bound=3)
LAYOUTS = flags.DEFINE_list("layouts", ["xs:16", "lsm2:2"], "Layout and windows per step, as layout:batch.")

TOGETHER = flags.DEFINE_boolean("together", False, "Prepare all at once: faster, but compile times mean nothing.")
ONLY = flags.DEFINE_list("only", None, "Names of competitors to run; all of them at LSM-2's size need 40 GB together.")

Row = dict[str, Any]


def competitors(quick: bool, dtype: str = "bfloat16") -> list[Row]:
  """Specs of all competitors (benchmarks/workers.py), ours first."""
  ours = lambda name, form, tokens, dtype: {
    "name": name,
    "framework": "jax",
    "form": form,
    "dtype": dtype,
    "options": {"model.decoder.tokens": tokens, "sizes": 6},
  }
  torch = lambda name, form, precision, **other: {
    "name": name,
    "framework": "torch",
    "form": form,
    "dtype": "float32" if precision == "float32" else "bfloat16",
    "precision": precision,
    **other,
  }
  specs = [
    ours("textbook", "textbook", "all", dtype),
    ours("compact", "auto", "all", dtype),
    ours("compact refined", "auto", "refined", dtype),
    ours("compact visible", "auto", "visible", dtype),
    torch("torch textbook bf16", "textbook", "bfloat16"),
    torch("torch strongest", "strongest", "bfloat16"),
  ]
  if not quick:
    specs += [
      ours("textbook fp32", "textbook", "all", "float32"),
      ours("compact fp32", "auto", "all", "float32"),
      ours("compact observed", "auto", "observed", dtype),
      torch("torch textbook fp32", "textbook", "float32"),
      torch("torch textbook bf16 compiled", "textbook", "bfloat16", compiled=True),
      torch("torch textbook fp32 compiled", "textbook", "float32", compiled=True),
      torch("torch strongest fp32", "strongest", "float32"),
      torch("torch strongest observed", "strongest", "bfloat16", options={"decoder_tokens": "observed"}),
    ]
  return specs


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  rows: list[Row] = []
  for place in ["xs:16", "lsm2:1"] if QUICK.value else LAYOUTS.value:
    layout, batch = place.split(":")
    specs = competitors(QUICK.value)
    specs = [spec | {"batches": 1 if QUICK.value else BATCHES.value} for spec in specs]
    specs = [spec for spec in specs if ONLY.value is None or spec["name"] in ONLY.value]
    repeats = (5 if layout == "xs" else 3) if QUICK.value else REPEATS.value
    measured = workers.measure(specs, layout, int(batch), repeats, together=QUICK.value or TOGETHER.value)
    rows += measured
    print_table(measured)
    print_ratios(measured)
  workers.write_csv(OUTPUT.value, rows)
  print(f"wrote {OUTPUT.value}")


def print_ratios(rows: Sequence[Row]) -> None:
  """Prints ratios of the median windows per second, and of step memory."""
  speed = {row["name"]: row["windows_per_second"] for row in rows if not row["error"]}
  fastest = lambda chosen: max((value for name, value in speed.items() if chosen(name)), default=None)
  eager = fastest(lambda name: name in ("torch textbook bf16", "torch textbook fp32"))
  strongest = fastest(lambda name: name.startswith("torch") and "observed" not in name)
  for name in ("compact", "compact observed", "compact visible"):
    against = {
      "our textbook step": speed.get("textbook"),
      "textbook PyTorch eager, its best type": eager,
      "the strongest PyTorch with the published decoder": strongest,
    }
    if name == "compact observed":
      against["the strongest PyTorch with this decoder"] = speed.get("torch strongest observed")
    ratios = [f"{speed[name] / other:.2f}x {what}" for what, other in against.items() if other and name in speed]
    if ratios:
      print(f"{name}: {', '.join(ratios)}")
  buffers = {row["name"]: row.get("step_mb") for row in rows}
  for name in ("compact", "compact observed", "compact visible"):
    if buffers.get("textbook") and buffers.get(name):
      print(f"{name}: {buffers[name] / buffers['textbook']:.2f}x the step memory of our textbook step")


if __name__ == "__main__":
  app.run(main)
