"""Speed and statistics of the simulator, beside the published statistics.

taskset -c 0 python -m benchmarks.simulator --participants=200 --days=7
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from data_pipelines.lsm2_schema import LSM2_REFERENCE
from data_pipelines.simulator import Simulation
from data_pipelines.simulator.missingness import gap_lengths
from data_pipelines.source import MISSINGNESS_MODES


def _row(label: str, lengths: np.ndarray, days: int) -> str:
  if not len(lengths):
    return f"  {label:18s} none"
  low, median, high = np.percentile(lengths, (10, 50, 90))
  return f"  {label:18s} {len(lengths) / days:6.2f} per day; minutes: median {median:.0f}, 10-90 % {low:.0f}-{high:.0f}"


def report(participants: int, days: int, seed: int) -> str:
  """Simulates a cohort, and returns how long it took and its statistics as text."""
  simulation = Simulation(participants, days, seed)
  begin, begin_cpu = time.perf_counter(), time.process_time()
  people = [simulation.person(participant) for participant in simulation.participants]
  seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
  values = np.concatenate([[day.values for day in person.days] for person in people])
  cause = np.concatenate([[day.cause for day in person.days] for person in people])
  shares = 100 * (cause > 0).mean(axis=(1, 2))
  lines = [
    f"{len(shares)} days of 1440 x {values.shape[2]} in {seconds:.2f} s: {len(shares) / seconds:.0f} days/s, "
    f"{len(shares) / cpu:.0f} per second of processor time (which counts where others use the core too)",
    f"missing share per day, %: mean {shares.mean():.1f}, median {np.median(shares):.1f}, SD {shares.std():.1f}, "
    f"range {shares.min():.1f}-{shares.max():.1f}; published 49, 48, 15, 2-80",
    f"share of values by mode, %, and gaps (in at least one channel) in {len(shares)} days:",
  ]
  for code, mode in enumerate(MISSINGNESS_MODES, start=1):
    mine = cause == code
    lines.append(_row(mode, gap_lengths(mine.any(axis=2)), len(cause)) + f"; {100 * mine.mean():.1f} % of values")
  lines.append(_row("all channels", gap_lengths((cause > 0).all(axis=2)), len(cause)))
  lines.append("channel                              mean  reference    off by (SD)         SD  reference    ratio")
  for c, (name, (mean, sd)) in enumerate(LSM2_REFERENCE.items()):
    channel = values[..., c].astype(np.float64)
    m, s = np.nanmean(channel), np.nanstd(channel)
    lines.append(f"{name:32s} {m:9.4g} {mean:10.4g} {(m - mean) / sd:14.2f} {s:10.4g} {sd:10.4g} {s / sd:8.2f}")
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--participants", type=int, default=200)
  parser.add_argument("--days", type=int, default=7)
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  print(report(arguments.participants, arguments.days, arguments.seed))


if __name__ == "__main__":
  main()
