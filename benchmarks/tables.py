"""The table that the step benchmarks print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def print_table(rows: Sequence[Row]) -> None:
  """Prints a row per competitor. Useful FLOPs are known only for our own forms (aim/model/flops.py)."""
  print(f"\n{rows[0]['layout']}: {rows[0]['tokens']} tokens per day, {rows[0]['batch']} windows per step")
  print("| step | windows/s | s per step (least to most) | useful TFLOP/s | peak MB | of them buffers | compile s |")
  print("|---|---|---|---|---|---|---|")
  number = lambda row, key, digits=0: f"{row[key]:.{digits}f}" if row.get(key) not in (None, "") else ""
  for row in rows:
    if row["error"]:
      print(f"| {row['name']} | failed: {row['error']} | | | | | |")
      continue
    spread = f"{row['median_s']:.2f} ({row['min_s']:.2f} to {row['max_s']:.2f})"
    useful = ""
    if row.get("useful_gflops"):
      useful = f"{row['useful_gflops'] / row['median_s'] / 1000:.2f}"
      if row["peak_gflops"]:
        useful += f" ({100 * row['useful_gflops'] / row['median_s'] / row['peak_gflops']:.0f} % of peak)"
    memory = number(row, "device_peak_mb") or number(row, "peak_mb")
    rest = f"{useful} | {memory} | {number(row, 'step_mb')} | {number(row, 'compile_s', 1)}"
    print(f"| {row['name']} | {row['windows_per_second']:.2f} | {spread} | {rest} |")
