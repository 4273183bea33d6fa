"""The trainings of a scaling study, read from the files of their cells."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from aim.common.config_files import ConfigError
from aim.common.tables import PERCENTILES, csv_field, write_rows
from aim.evaluation.generative import heldout_loss
from aim.evaluation.generative.scores import draws_of
from aim.studies import job_runner
from data_pipelines.text_files import read_json

MEASURES = {"mse": "random 80 % mse", "loss": "own objective"}


@dataclasses.dataclass(frozen=True)
class ScalingCell:
  """One training and its score.

  Attributes:
    number: in cells.csv.
    dataset: name in tables; the folds of a dataset share it.
    fold: name of the built dataset.
    participants, days: most to train on; 0: all.
    folder: workdir of its commands.
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
    """The file that its last command writes."""
    return self.folder / heldout_loss.FILE

  def why_unfinished(self) -> str:
    """One line that says why its result cannot be used; "" if it can, whoever ran the commands."""
    if not self.result.exists():
      return f"{self.result}: no such file yet"
    return job_runner.why_not_own(self.folder, "heldout")

  @property
  def ran_here(self) -> bool:
    """True if this mode ran its last command, and no other scheduler."""
    return self.commands[-1].fingerprint in job_runner.finished_commands(self.folder)

  @property
  def seconds(self) -> float:
    """Time that its commands took, of those that this mode ran."""
    return sum(command.seconds for command in job_runner.finished_commands(self.folder).values())


@dataclasses.dataclass(frozen=True)
class ScalingPoint:
  """One training with its losses, on all people and on people drawn with replacement.

  Attributes:
    limits: most participants and most days to train on; 0: all.
    participants, hours, parameters, compute: what it was trained with, as means over folds; compute in useful FLOPs.
    seconds: time that its cells took.
    people: number of people it was scored on.
    value: {measure: loss}.
    draws: {measure: float64 [draws]}; in each draw the people are the same for all points of a dataset.
  """

  dataset: str
  model: str
  size: str
  steps: int
  seed: int
  limits: tuple[int, int]
  participants: float
  hours: float
  parameters: float
  compute: float
  seconds: float
  people: int
  value: dict[str, float]
  draws: dict[str, np.ndarray]

  def interval(self, measure: str) -> tuple[float, float]:
    """The 95 % interval over people; NaN for a single person."""
    known = self.draws[measure][np.isfinite(self.draws[measure])]
    if self.people < 2 or not len(known):
      return math.nan, math.nan
    low, high = np.percentile(known, PERCENTILES)
    return float(low), float(high)


def read_points(cells: Sequence[ScalingCell], n_bootstrap: int) -> Iterator[ScalingPoint]:
  """Yields a point for every training that is finished on all folds.

  Raises:
    UserError: a result is damaged or of another cell, or a cell was scored on other people than the cells before it.
  """
  folds: dict[str, set[str]] = {}
  groups: dict[tuple, list[ScalingCell]] = {}
  for cell in cells:
    folds.setdefault(cell.dataset, set()).add(cell.fold)
    key = (cell.dataset, cell.model, cell.size, cell.participants, cell.days, cell.steps, cell.seed)
    groups.setdefault(key, []).append(cell)
  everyone: dict[str, list[str]] = {}
  for key, group in groups.items():
    if len(group) < len(folds[key[0]]):
      continue
    results = [_read(cell.result) for cell in group]
    people = {name: sums for result in results for name, sums in result["people"].items()}
    if len(people) < sum(len(result["people"]) for result in results):
      raise ConfigError(f"{group[0].result}: its people were scored in another fold too; remove it and repeat")
    if sorted(people) != everyone.setdefault(key[0], sorted(people)):
      raise ConfigError(f"{group[0].result}: other people were scored than in other cells; remove it and repeat")
    seconds = sum(cell.seconds for cell in group)
    try:
      for cell, result in zip(group, results, strict=True):
        _check_own(cell, result)
      _check_unseen(group, results)
      point = _point(key, results, people, n_bootstrap, seconds)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
      files = ", ".join(str(cell.result) for cell in group)
      raise ConfigError(f"{files}: damaged, no losses of people; remove it and repeat ({error!r})") from None
    yield point


def _read(path: pathlib.Path) -> dict[str, Any]:
  result = read_json(path)
  if not isinstance(result, dict) or not isinstance(result.get("people"), dict) or not result["people"]:
    raise ConfigError(f"{path}: damaged, key 'people' with their losses is missing; remove it and repeat")
  return result


def _check_own(cell: ScalingCell, result: dict[str, Any]) -> None:
  """Raises ConfigError for a result that is of another training than that of its cell."""
  for key, expected in {"dataset": cell.fold, "model": cell.model, "steps": cell.steps, "seed": cell.seed}.items():
    if result[key] != expected:
      raise ConfigError(
        f"{cell.result}: {key} is {result[key]!r}, expected {expected!r} of its cell; remove the folder and repeat"
      )
  for key, most in {"participants": cell.participants, "days": cell.days}.items():
    if most and result[key] > most:
      raise ConfigError(
        f"{cell.result}: {key} is {result[key]}, expected at most {most} of its cell; remove the folder and repeat"
      )


def _check_unseen(group: Sequence[ScalingCell], results: Sequence[dict[str, Any]]) -> None:
  """Raises ConfigError for people who were scored and may have been trained on; older files do not say."""
  for cell, result in zip(group, results, strict=True):
    seen = result.get("seen_in_training", "none")
    if seen != "none":
      raise ConfigError(
        f"{cell.result}: of the people scored, those trained on are {seen}, expected none; remove it and repeat"
      )


def _point(
  key: tuple, results: Sequence[dict[str, Any]], people: dict[str, Any], n_bootstrap: int, seconds: float
) -> ScalingPoint:
  dataset, model, size, participants, days, steps, seed = key
  mean = lambda name: float(np.mean([result[name] for result in results]))
  return ScalingPoint(
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
  """heldout_loss.measures of people drawn with replacement, {measure: float64 [draws]}."""
  drawn = draws_of(len(people), n_bootstrap, 0)
  nothing = [0.0] * max(len(person.get("cells", ())) for person in people)
  pooled = lambda key, without: drawn @ np.array([person.get(key, without) for person in people], np.float64)
  loss = _ratio(pooled("error", 0), pooled("scored", 0))
  by_channel = _ratio(pooled("squared", nothing), pooled("cells", nothing))
  scored = np.isfinite(by_channel)  # a channel without scored values in a draw is left out of its mean
  return {"loss": loss, "mse": _ratio(np.where(scored, by_channel, 0).sum(axis=1), scored.sum(axis=1))}


def _ratio(numerator: Float[np.ndarray, "*n"], denominator: Num[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
  """numerator / denominator, NaN where the denominator is 0."""
  return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _rows(points: Sequence[ScalingPoint]) -> Iterator[dict[str, Any]]:
  for point in points:
    plain = ("dataset", "model", "size", "steps", "seed", "participants", "hours", "parameters", "compute", "people")
    row = {name: getattr(point, name) for name in plain} | {"seconds": point.seconds}
    for measure, value in point.value.items():
      low, high = point.interval(measure)
      row |= {measure: value, f"{measure}_low": low, f"{measure}_high": high}
    yield row


def write_points(points: Sequence[ScalingPoint], path: pathlib.Path) -> None:
  """Writes a CSV with a row per training and 95 % intervals over people; compute in useful FLOPs."""
  rows = list(_rows(points))
  write_rows(path, tuple(rows[0]), [[csv_field(value) for value in row.values()] for row in rows])


def points_table(points: Sequence[ScalingPoint]) -> str:
  """A table for a terminal, with a row per training."""
  rows = [["model", "size", "people", "hours", "parameters", "steps", "FLOPs", *MEASURES.values()]]
  for point in points:
    row = [point.model, point.size, f"{point.participants:,.0f}", f"{point.hours:,.0f}", f"{point.parameters:,.0f}"]
    rows.append([*row, str(point.steps), f"{point.compute:.2e}", *(f"{point.value[name]:.4f}" for name in MEASURES)])
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  rows.insert(1, ["-" * width for width in widths])
  lines = ([field.ljust(width) for field, width in zip(row, widths, strict=True)] for row in rows)
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)
