"""Errors of every method on the hidden values, kept as sums per person, and their tables with intervals over people.

Only sums are kept (SUMS, float64), so batches and cross-validation folds pool exactly, and a bootstrap over people
needs no second look at the data. aim/evaluation/generative/score_files.py writes and reads them.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from aim.common.tables import PERCENTILES
from aim.evaluation.difference import Difference
from aim.evaluation.generative.tasks import GenerativeTask
from data_pipelines.errors import UserError

ALL = "all"  # the row with the mean over channels
# Over a channel's scored values: their number, squared errors, absolute errors, absolute truths; then the last three in
# the channel's own unit.
SUMS = ("n", "sse", "sae", "sat", "unit_sse", "unit_sae", "unit_sat")
METRICS = ("mse", "mae", "rmse", "mre")  # mre: sum of absolute errors over sum of absolute truths, as in PyPOTS
ROUNDING = 1e-6  # relative difference of two sums of squares of float32 predictions that are meant to be equal


@dataclasses.dataclass(frozen=True)
class ScoreRow:
  """One row of the table of scores. A number is NaN where it is not defined.

  Attributes:
    task, level: see `GenerativeTask`.
    method: the model or the imputer.
    channel: its name, or "all" for the mean over the channels that have scored values.
    n: scored values, summed over people.
    mse, mae: mean squared and mean absolute error, in the units of the arrays that were added (z-scores).
    ci_low, ci_high: 95 % interval of mse.
    rmse, mre: root of mse; absolute errors over absolute truths. "all" is the mean over the channels here too.
    unit_mse, unit_mae, unit_rmse, unit_mre: the same in the channel's own unit, truth unclipped; "all" has only mre.
  """

  task: str
  level: int
  method: str
  channel: str
  n: int
  mse: float
  mae: float
  ci_low: float
  ci_high: float
  rmse: float = math.nan
  mre: float = math.nan
  unit_mse: float = math.nan
  unit_mae: float = math.nan
  unit_rmse: float = math.nan
  unit_mre: float = math.nan


class Scores:
  """Sums of errors per task, method, person and channel."""

  def __init__(self, channels: Sequence[str]) -> None:
    """Starts without any sums; ValueError unless the channels' names are different, and none is "all"."""
    if not channels or ALL in channels or len(set(channels)) != len(channels):
      raise ValueError(f"scores: channels are {list(channels)}, expected different names other than {ALL!r}")
    self.channels = tuple(channels)
    # (task, method) -> participant -> float64 [7, C] in the order of SUMS.
    self.sums: dict[tuple[GenerativeTask, str], dict[str, np.ndarray]] = collections.defaultdict(dict)

  @property
  def tasks(self) -> tuple[GenerativeTask, ...]:
    """The tasks in the order they were added."""
    return tuple(dict.fromkeys(task for task, _ in self.sums))

  @property
  def methods(self) -> tuple[str, ...]:
    """The methods in the order they were added."""
    return tuple(dict.fromkeys(method for _, method in self.sums))

  def add(
    self,
    task: GenerativeTask,
    method: str,
    participants: Sequence[str] | np.ndarray,
    prediction: np.ndarray,
    truth: np.ndarray,
    scored: np.ndarray,
    in_units: tuple[np.ndarray, np.ndarray] | None = None,
  ) -> None:
    """Adds the errors of a batch of days.

    Args:
      task: the task that hid the values.
      method: the method that filled them.
      participants: [D], whose day each is.
      prediction: [D, S, C], finite where scored.
      truth: [D, S, C], finite where scored.
      scored: bool [D, S, C], the values to score.
      in_units: prediction and truth in physical units, where those above are not.

    Raises:
      ValueError: shapes differ, or a scored value is not finite.
    """
    shape = (len(participants), *truth.shape[1:2], len(self.channels))
    if not (prediction.shape == truth.shape == scored.shape == shape) or scored.dtype != bool:
      raise ValueError(
        f"scores of {method}, {task.label}: prediction {prediction.shape}, truth {truth.shape}, scored {scored.shape} "
        f"{scored.dtype}, expected all [{len(participants)}, steps, {len(self.channels)}] and scored bool"
      )
    errors = _sums_of_errors(prediction, truth, scored)
    if not np.isfinite(errors).all():
      day, step, channel = np.argwhere(scored & ~np.isfinite(prediction - truth))[0]
      raise ValueError(
        f"scores of {method}, {task.label}: participant {participants[day]!r}, row {day}, step {step}, channel "
        f"{self.channels[channel]!r}: prediction {prediction[day, step, channel]}, truth {truth[day, step, channel]}, "
        "expected finite numbers"
      )
    errors_in_units = errors if in_units is None else _sums_of_errors(*in_units, scored)
    of_days = np.concatenate([scored.sum(axis=1)[:, None], errors, errors_in_units], axis=1)
    people = self.sums[task, method]
    for participant, sums in zip(participants, of_days, strict=True):
      people[str(participant)] = people.get(str(participant), 0) + sums

  def table(self, n_bootstrap: int = 1000, seed: int = 0) -> list[ScoreRow]:
    """Scores of every task, method and channel, "all" first.

    A channel's mse is the sum of its squared errors over the number of its scored values, all people together; "all" is
    the mean over the channels that have scored values. Intervals are percentile bootstraps over people (Efron 1979):
    people are drawn with replacement, the same draws for every method; a channel without scored values in a draw is
    left out of that draw's mean. They are NaN where fewer than two people have scored values.

    Args:
      n_bootstrap: draws.
      seed: seed of the draws.

    Raises:
      UserError: methods of a task were scored on different values.
    """
    return [row for task in self.tasks for row in self._task_rows(task, n_bootstrap, seed)]

  def differences(
    self, method: str, other: str, n_bootstrap: int = 1000, seed: int = 0
  ) -> dict[GenerativeTask, Difference]:
    """Paired difference of two methods in each task that has both, in % of the other's mse, with the draws of `table`.

    Raises:
      ValueError: there are no scores of one of the two, or they were scored on different values.
    """
    for name in (method, other):
      if name not in self.methods:
        raise ValueError(f"scores: no method {name!r}; methods are {', '.join(self.methods) or 'none'}")
    differences = {}
    for task in self.tasks:
      names, sums = self.people(task)
      if method in sums and other in sums:
        draws = draws_of(len(names), n_bootstrap, seed)
        percent = percent_above(sums[method].sum(axis=0), sums[other].sum(axis=0))
        samples = percent_above(pool(draws, sums[method]), pool(draws, sums[other]))
        low, high = interval(samples) if len(names) > 1 else (math.nan, math.nan)
        differences[task] = Difference(method, other, "mse", float(percent), float(low), float(high), "%", len(names))
    return differences

  def people(self, task: GenerativeTask) -> tuple[list[str], dict[str, np.ndarray]]:
    """People with scored values in the task, sorted, and the sums [people, 7, C] of each method.

    Raises:
      UserError: the methods were scored on different values.
    """
    methods = [method for of_task, method in self.sums if of_task == task]
    names = sorted({name for method in methods for name, sums in self.sums[task, method].items() if sums[0].any()})
    none = np.zeros((len(SUMS), len(self.channels)))
    stacked = {}
    for method in methods:
      of_people = [self.sums[task, method].get(name, none) for name in names]
      stacked[method] = np.array(of_people).reshape(-1, *none.shape)
    self._check_same_values(task, names, stacked)
    return names, stacked

  def _check_same_values(self, task: GenerativeTask, names: list[str], sums: dict[str, np.ndarray]) -> None:
    reference, *others = sums
    for method in others:
      differ = np.argwhere(sums[reference][:, 0] != sums[method][:, 0])
      if differ.size:
        p, c = differ[0]
        counts = [int(sums[name][p, 0, c]) for name in (reference, method)]
        raise UserError(
          f"scores of {task.label}: {reference} and {method} were scored on different values: participant "
          f"{names[p]!r}, channel {self.channels[c]!r} has {counts[0]} and {counts[1]}"
        )

  def _task_rows(self, task: GenerativeTask, n_bootstrap: int, seed: int) -> list[ScoreRow]:
    people, of_methods = self.people(task)
    draws = draws_of(len(people), n_bootstrap, seed)
    rows = []
    for method, sums in of_methods.items():
      total = sums.sum(axis=0)
      columns = {name: with_mean(metric(total, name)) for name in METRICS}
      columns |= {f"unit_{name}": with_mean(metric(total, name, in_units=True)) for name in METRICS}
      for name in METRICS[:3]:
        columns[f"unit_{name}"][0] = np.nan  # units differ
      bounds = interval(with_mean(metric(pool(draws, sums), "mse")))
      contributors = np.concatenate([[len(people)], (sums[:, 0] > 0).sum(axis=0)])
      columns["ci_low"], columns["ci_high"] = np.where(contributors > 1, bounds, np.nan)
      counts = np.concatenate([[total[0].sum()], total[0]]).astype(int)
      for c, channel in enumerate((ALL, *self.channels)):
        numbers = {name: float(column[c]) for name, column in columns.items()}
        rows.append(ScoreRow(task.name, task.level, method, channel, int(counts[c]), **numbers))
    return rows


def merge(parts: Iterable[Scores]) -> Scores:
  """Pools the scores of disjoint people, such as cross-validation folds.

  Raises:
    ValueError: there is nothing to merge, the channels differ, or a method scored a participant twice in one task.
  """
  parts = list(parts)
  if not parts:
    raise ValueError("scores: nothing to merge")
  merged = Scores(parts[0].channels)
  for part in parts:
    if part.channels != merged.channels:
      raise UserError(f"scores: cannot merge channels {list(part.channels)} with {list(merged.channels)}")
    for (task, method), people in part.sums.items():
      repeated = sorted(merged.sums[task, method].keys() & people.keys())
      if repeated:
        raise UserError(f"scores: participant {repeated[0]!r} appears twice for {method}, {task.label}")
      merged.sums[task, method].update(people)
  return merged


def add(parts: Sequence[Scores]) -> Scores:
  """Adds up the scores of different days, which may be of the same people."""
  total = Scores(parts[0].channels)
  for part in parts:
    for key, people in part.sums.items():
      for name, sums in people.items():
        total.sums[key][name] = total.sums[key].get(name, 0) + sums
  return total


def only(scores: Scores, method: str) -> Scores:
  """The scores of one method alone."""
  part = Scores(scores.channels)
  part.sums.update({key: people for key, people in scores.sums.items() if key[1] == method})
  return part


def led_by(scores: Scores, method: str) -> Scores:
  """The same scores with one method before the others; as they are if nothing was scored of it."""
  led = Scores(scores.channels)
  led.sums.update(sorted(scores.sums.items(), key=lambda item: item[0][1] != method))
  return led


def metric(sums: Float[np.ndarray, "*draws k c"], name: str, in_units: bool = False) -> Float[np.ndarray, "*draws c"]:
  """One of METRICS for every channel, from its SUMS; NaN without scored values, and mre where all truths are 0."""
  n, squares, errors, truths = (sums[..., i, :] for i in ((0, 4, 5, 6) if in_units else range(4)))
  over, under = {"mse": (squares, n), "rmse": (squares, n), "mae": (errors, n), "mre": (errors, truths)}[name]
  mean = np.divide(over, under, out=np.full(n.shape, np.nan), where=under > 0)
  return np.sqrt(mean) if name == "rmse" else mean


def with_mean(errors: Float[np.ndarray, "*draws c"]) -> Float[np.ndarray, "*draws 1+c"]:
  """The mean over the channels that are not NaN, then the channels."""
  known = ~np.isnan(errors)
  total, count = np.where(known, errors, 0).sum(axis=-1, keepdims=True), known.sum(axis=-1, keepdims=True)
  overall = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
  return np.concatenate([overall, errors], axis=-1)


def percent_above(
  sums: Float[np.ndarray, "*draws k c"], others: Float[np.ndarray, "*draws k c"]
) -> Float[np.ndarray, "*draws"]:
  """Percentage by which the mean mse of `sums` exceeds that of `others`; NaN where the others' is 0.

  It is 0 for errors that are equal but for rounding, so that no verdict follows from a difference that small.
  """
  ours, theirs = (with_mean(metric(part, "mse"))[..., 0] for part in (sums, others))
  return _percent_above(ours, theirs)


def channel_percent_above(
  sums: Float[np.ndarray, "draws k c"], others: Float[np.ndarray, "draws k c"]
) -> Float[np.ndarray, "draws c"]:
  """Percentage by which each channel's mse exceeds that of `others`; NaN where the others' is 0 or not known.

  It is 0 for errors that are equal but for rounding.
  """
  ours, theirs = (metric(part, "mse") for part in (sums, others))
  return _percent_above(ours, theirs)


def _percent_above(ours: Float[np.ndarray, "*n"], theirs: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
  excess = np.divide(ours, theirs, out=np.full(theirs.shape, np.nan), where=theirs > 0) - 1
  return np.asarray(100 * np.where(abs(excess) < ROUNDING, 0, excess))  # an array also of a single number


def draws_of(people: int, n_bootstrap: int, seed: int) -> Float[np.ndarray, "draws people"]:
  """Draws n_bootstrap samples of `people` people with replacement, as the number of times each person is drawn."""
  if not people:
    return np.zeros((n_bootstrap, 0))
  return np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), n_bootstrap).astype(np.float64)


def pool(
  draws: Float[np.ndarray, "draws people"], sums: Float[np.ndarray, "people k c"]
) -> Float[np.ndarray, "draws k c"]:
  """The sums over the people of each draw."""
  return np.tensordot(draws, sums, axes=1)


def interval(samples: Float[np.ndarray, "draws *shape"]) -> Float[np.ndarray, "2 *shape"]:
  """The 95 % interval over the draws that are not NaN; NaN where there is none."""
  flat = samples.reshape(len(samples), -1)
  bounds = np.full((2, flat.shape[1]), np.nan)
  for i, column in enumerate(flat.T):
    known = column[~np.isnan(column)]
    if known.size:
      bounds[:, i] = np.percentile(known, PERCENTILES)
  return bounds.reshape(2, *samples.shape[1:])


def _sums_of_errors(prediction: np.ndarray, truth: np.ndarray, scored: np.ndarray) -> Float[np.ndarray, "d 3 c"]:
  """Squared errors, absolute errors and absolute truths of every day and channel."""
  error = np.where(scored, prediction.astype(np.float64) - truth, 0)
  known = np.where(scored, truth, 0).astype(np.float64)
  return np.stack([(error**2).sum(axis=1), np.abs(error).sum(axis=1), np.abs(known).sum(axis=1)], axis=1)
