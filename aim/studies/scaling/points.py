"""The trainings of a scaling study, out of the files of their cells."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from aim.common.config_files import ConfigError
from aim.common.tables import PERCENTILES
from aim.evaluation.generative import heldout_loss
from aim.evaluation.generative.scores import draws_of
from aim.studies import job_runner

MEASURES = {"mse": "random 80 % mse", "loss": "own objective"}


@dataclasses.dataclass(frozen=True)
class Cell:
  """One training and its score.

  Attributes:
    number: in cells.csv.
    dataset: name in tables; the folds of a data set share it.
    fold: name of the built dataset.
    participants, days: at most so many to train on, 0: all.
    folder: workdir of its commands.
    commands: each as arguments of the Python interpreter.
  """

  number: int
  dataset: str
  fold: str
  model: str
  size: str
  participants: int
  days: int
  steps: int
  seed: int
  folder: pathlib.Path
  commands: tuple[job_runner.Command, ...]

  @property
  def result(self) -> pathlib.Path:
    return self.folder / heldout_loss.FILE

  @property
  def seconds(self) -> float:
    """Of its commands that were run by this mode."""
    return sum(job_runner.seconds(self.folder).values())


@dataclasses.dataclass(frozen=True)
class Point:
  """One training; its losses on all people, and on people drawn with replacement.

  Attributes:
    participants, hours, parameters, compute: of its training; compute in useful FLOPs. Means over folds.
    value: {measure: loss}.
    draws: {measure: float64 [draws]}, the same people in each draw for all points of a data set.
  """

  dataset: str
  model: str
  size: str
  steps: int
  seed: int
  asked: tuple[int, int]
  participants: float
  hours: float
  parameters: float
  compute: float
  seconds: float
  people: int
  value: dict[str, float]
  draws: dict[str, np.ndarray]

  def interval(self, measure: str) -> tuple[float, float]:
    """95 %, over people; NaN where there is one person."""
    known = self.draws[measure][np.isfinite(self.draws[measure])]
    if self.people < 2 or not len(known):
      return math.nan, math.nan
    low, high = np.percentile(known, PERCENTILES)
    return float(low), float(high)


def read(cells: Sequence[Cell], n_bootstrap: int) -> Iterator[Point]:
  """A point for every training whose folds are all done."""
  folds: dict[str, set[str]] = {}
  groups: dict[tuple, list[Cell]] = {}
  for cell in cells:
    folds.setdefault(cell.dataset, set()).add(cell.fold)
    key = (cell.dataset, cell.model, cell.size, cell.participants, cell.days, cell.steps, cell.seed)
    groups.setdefault(key, []).append(cell)
  everyone: dict[str, list[str]] = {}
  for key, group in groups.items():
    if len(group) < len(folds[key[0]]):
      continue
    told = [json.loads(cell.result.read_text()) for cell in group]
    people = {name: sums for each in told for name, sums in each["people"].items()}
    if sorted(people) != everyone.setdefault(key[0], sorted(people)):
      raise ConfigError(f"{group[0].result}: other people were scored than in other cells; remove it and repeat")
    yield _point(key, told, people, n_bootstrap, sum(cell.seconds for cell in group))


def _point(
  key: tuple, told: Sequence[dict[str, Any]], people: dict[str, Any], n_bootstrap: int, seconds: float
) -> Point:
  dataset, model, size, participants, days, steps, seed = key
  mean = lambda name: float(np.mean([each[name] for each in told]))
  return Point(
    dataset,
    model,
    size,
    steps,
    seed,
    (participants, days),
    participants=mean("participants"),
    hours=24 * mean("days"),
    parameters=mean("parameters"),
    compute=mean("flops"),
    seconds=seconds,
    people=len(people),
    value=heldout_loss.measures(people),
    draws=_draws([people[name] for name in sorted(people)], n_bootstrap),
  )


def _draws(people: Sequence[dict[str, Any]], n_bootstrap: int) -> dict[str, Float[np.ndarray, " draws"]]:
  """heldout.measures of people drawn with replacement."""
  drawn = draws_of(len(people), n_bootstrap, 0)
  nothing = [0.0] * max(len(person.get("cells", ())) for person in people)
  pooled = lambda key, without: drawn @ np.array([person.get(key, without) for person in people], np.float64)
  squared, cells = pooled("squared", nothing), pooled("cells", nothing)
  with np.errstate(divide="ignore", invalid="ignore"):
    return {"loss": pooled("error", 0) / pooled("scored", 0), "mse": np.nanmean(squared / cells, axis=1)}


def _lines(found: Sequence[Point]) -> Iterator[dict[str, Any]]:
  for point in found:
    plain = ("dataset", "model", "size", "steps", "seed", "participants", "hours", "parameters", "compute", "people")
    line = {name: getattr(point, name) for name in plain} | {"seconds": point.seconds}
    for measure, value in point.value.items():
      low, high = point.interval(measure)
      line |= {measure: value, f"{measure}_low": low, f"{measure}_high": high}
    yield line


def write(found: Sequence[Point], path: pathlib.Path) -> None:
  """A line a training, with 95 % intervals over people; compute in useful FLOPs, NaN as an empty cell."""
  lines = list(_lines(found))
  with path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, lines[0], lineterminator="\n")
    writer.writeheader()
    for line in lines:
      writer.writerow({key: _cell(value) for key, value in line.items()})


def _cell(value: Any) -> Any:
  return ("" if math.isnan(value) else f"{value:.6g}") if isinstance(value, float) else value


def table(found: Sequence[Point]) -> str:
  """For a terminal: a line a training."""
  rows = [["model", "size", "people", "hours", "parameters", "steps", "FLOPs", *MEASURES.values()]]
  for point in found:
    row = [point.model, point.size, f"{point.participants:g}", f"{point.hours:,.0f}", f"{point.parameters:,.0f}"]
    rows.append([*row, str(point.steps), f"{point.compute:.2e}", *(f"{point.value[name]:.4f}" for name in MEASURES)])
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  rows.insert(1, ["-" * width for width in widths])
  lines = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)
