"""Compute that a scaling study has to span for its exponent to be known to 0.1, by the scatter measured.

  python -m benchmarks.scaling_power [--points=benchmarks/results/scaling/scaling.csv]
      [--output=benchmarks/results/scaling/power.csv]

Losses that follow a law a x^-b + c are made up at points evenly spaced in log x, with the scatter of trainings that
differ in nothing that should matter: in that study, the cells of one size and number of steps. Each study that is made
up gives one exponent; the width is the distance between their 2.5th and 97.5th percentile. This is the least that a
study's own interval can be expected to be: a study does not know the scatter, nor which people it will score, and its
fits do not start at the true law. One CPU core, some ten minutes.
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from absl import app, flags

from aim.common.progress import progress_bar
from aim.common.tables import PERCENTILES, write_rows
from aim.studies.scaling import power_law

POINTS = flags.DEFINE_string("points", "benchmarks/results/scaling/scaling.csv", "scaling.csv of a study.")
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/scaling/power.csv", "Where to write the table.")
DRAWS = flags.DEFINE_integer("draws", 150, "Studies that are made up of each kind.", lower_bound=20)

DECADES = (1.5, 3, 4.5)
# Exponents, and the share of the first loss that no compute removes.
LAWS = tuple((exponent, floor) for exponent in (0.05, 0.1, 0.2) for floor in (0.5, 0.7))
RUNS = (8, 24)


def scatter(path: pathlib.Path) -> dict[str, float]:
  """SD of the log of a model's own loss over the cells of its most frequent size and number of steps."""
  with path.open(encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file))
  groups: dict[str, dict[tuple[str, str], list[float]]] = {}
  for row in rows:
    of_model = groups.setdefault(row["model"], {})
    of_model.setdefault((row["size"], row["steps"]), []).append(float(row["loss"]))
  return {model: float(np.std(np.log(max(of_model.values(), key=len)), ddof=1)) for model, of_model in groups.items()}


def width(exponent: float, floor: float, decades: float, runs: int, sd: float) -> float:
  """The width of the exponent's 95 % interval."""
  x = np.geomspace(1, 10**decades, runs)
  true = (1 - floor) * x**-exponent + floor
  rng = np.random.default_rng([round(1000 * value) for value in (exponent, floor, decades, runs, sd)])
  starts = [(exponent, floor), (0.2, 0.0), (0.5, 0.9)]
  exponents = [power_law.fit(x, true * np.exp(sd * rng.normal(size=runs)), starts).b for _ in range(DRAWS.value)]
  low, high = np.percentile(exponents, PERCENTILES)
  return float(high - low)


def table(scatters: dict[str, float]) -> Iterator[list[object]]:
  """Rows of model, scatter, exponent, floor, runs, decades and width."""
  cases = [(model, sd, *law, runs) for model, sd in scatters.items() for law in LAWS for runs in RUNS]
  with progress_bar(len(cases) * len(DECADES), "fit", "study") as bar:
    for model, sd, exponent, floor, runs in cases:
      for decades in DECADES:
        yield [model, round(sd, 5), exponent, floor, runs, decades, round(width(exponent, floor, decades, runs, sd), 4)]
        bar.update()


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  rows = list(table(scatter(pathlib.Path(POINTS.value))))
  write_rows(OUTPUT.value, ("model", "scatter", "exponent", "floor", "runs", "decades", "width"), rows)
  for row in rows:
    print("{}: scatter {:.2%}, x^-{} above {:.0%}, {} runs over {} decades: width {}".format(*row))
  print(f"wrote {OUTPUT.value}")


if __name__ == "__main__":
  app.run(main)
