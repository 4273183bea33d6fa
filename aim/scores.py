"""Errors of imputers on hidden cells, kept as sums per person, and their tables with intervals over people.

Only sums are kept (cells, squared errors, absolute errors: float64), so batches and cross-validation folds pool exactly
and a bootstrap over people needs no second look at the data.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from aim.tasks import Task

ALL = "all"  # the row with the mean over channels
INTERVAL = (2.5, 97.5)  # percentiles of the bootstrap
PEOPLE_COLUMNS = ("task", "level", "method", "channel", "participant", "n", "sse", "sae")


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table of scores; NaN where there is nothing to say.

  Attributes:
    task, level: see `Task`.
    method: who filled the cells.
    channel: its name, or "all" for the mean over the channels that have cells.
    n: scored cells, summed over people.
    mse, mae: mean squared and mean absolute error, in the units of the arrays that were added (z-scores).
    ci_low, ci_high: 95 % interval of mse.
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


@dataclasses.dataclass(frozen=True)
class Difference:
  """100 * (mse of a method / mse of the other - 1), mean over channels, with its paired 95 % interval."""

  task: str
  level: int
  percent: float
  ci_low: float
  ci_high: float


class Scores:
  """Sums of errors per task, method, person and channel."""

  def __init__(self, channels: Sequence[str]) -> None:
    if not channels or ALL in channels or len(set(channels)) != len(channels):
      raise ValueError(f"scores: channels are {list(channels)}, expected different names other than {ALL!r}")
    self.channels = tuple(channels)
    # (task, method) -> participant -> float64 [3, C]: n, sum of squared errors, sum of absolute errors.
    self._sums: dict[tuple[Task, str], dict[str, np.ndarray]] = collections.defaultdict(dict)

  @property
  def tasks(self) -> tuple[Task, ...]:
    """In the order they were added."""
    return tuple(dict.fromkeys(task for task, _ in self._sums))

  @property
  def methods(self) -> tuple[str, ...]:
    """In the order they were added."""
    return tuple(dict.fromkeys(method for _, method in self._sums))

  def add(
    self,
    task: Task,
    method: str,
    participants: Sequence[str] | np.ndarray,
    prediction: np.ndarray,
    truth: np.ndarray,
    target: np.ndarray,
  ) -> None:
    """Adds the errors of a batch of days.

    Args:
      task: that hid the cells.
      method: that filled them.
      participants: [D] whose day it is.
      prediction: [D, S, C], finite on target cells.
      truth: [D, S, C], finite on target cells.
      target: bool [D, S, C], the cells to score.

    Raises:
      ValueError: shapes differ, or a target cell is not finite.
    """
    shape = (len(participants), *truth.shape[1:2], len(self.channels))
    if not (prediction.shape == truth.shape == target.shape == shape) or target.dtype != bool:
      raise ValueError(
        f"scores of {method}, {task.label}: prediction {prediction.shape}, truth {truth.shape}, target {target.shape} "
        f"{target.dtype}, expected all [{len(participants)}, steps, {len(self.channels)}] and target bool"
      )
    error = np.where(target, prediction.astype(np.float64) - truth, 0)
    if not np.isfinite(error).all():
      day, step, channel = np.argwhere(~np.isfinite(error))[0]
      raise ValueError(
        f"scores of {method}, {task.label}: participant {participants[day]!r}, row {day}, step {step}, channel "
        f"{self.channels[channel]!r}: prediction {prediction[day, step, channel]}, truth {truth[day, step, channel]}, "
        "expected finite numbers"
      )
    of_days = np.stack([target.sum(axis=1), (error**2).sum(axis=1), np.abs(error).sum(axis=1)], axis=1)
    people = self._sums[task, method]
    for participant, sums in zip(participants, of_days, strict=True):
      people[str(participant)] = people.get(str(participant), 0) + sums

  def table(self, n_bootstrap: int = 1000, seed: int = 0) -> list[Row]:
    """Scores of every task, method and channel, `all` first.

    A channel's mse is the sum of its errors over the sum of its cells, all people together; `all` is the mean over the
    channels that have cells. Intervals are percentile bootstraps over people (Efron 1979): people are drawn with
    replacement, the same draws for every method; a channel without cells in a draw is left out of that draw's mean.
    NaN where fewer than two people have cells.

    Raises:
      ValueError: methods of a task were scored on different cells.
    """
    return [row for task in self.tasks for row in self._task_rows(task, n_bootstrap, seed)]

  def difference(self, method: str, other: str, n_bootstrap: int = 1000, seed: int = 0) -> list[Difference]:
    """How far `method` lies above (+) or below (-) `other` in each task that has both, with the draws of `table`.

    Raises:
      ValueError: no scores of one of the two, or they were scored on different cells.
    """
    for name in (method, other):
      if name not in self.methods:
        raise ValueError(f"scores: no method {name!r}; methods are {', '.join(self.methods) or 'none'}")
    differences = []
    for task in self.tasks:
      people, sums = self._people(task)
      if method in sums and other in sums:
        draws = _draws(len(people), n_bootstrap, seed)
        percent = _percent(sums[method].sum(axis=0), sums[other].sum(axis=0))
        samples = _percent(_pool(draws, sums[method]), _pool(draws, sums[other]))
        low, high = _interval(samples) if len(people) > 1 else (math.nan, math.nan)
        differences.append(Difference(task.name, task.level, float(percent), float(low), float(high)))
    return differences

  def save_people(self, path: str | pathlib.Path) -> None:
    """Writes the sums, one line per task, method, channel and participant; `load_people` gives them back exactly."""
    _write(path, PEOPLE_COLUMNS, self._lines())

  def _lines(self) -> Iterator[tuple[Any, ...]]:
    for (task, method), people in self._sums.items():
      for participant, sums in people.items():
        for channel, (n, sse, sae) in zip(self.channels, sums.T, strict=True):
          yield task.name, task.level, method, channel, participant, int(n), repr(float(sse)), repr(float(sae))

  def _people(self, task: Task) -> tuple[list[str], dict[str, np.ndarray]]:
    """People with cells in the task, sorted, and the sums [people, 3, C] of each method; all have the same cells."""
    methods = [method for of_task, method in self._sums if of_task == task]
    names = sorted({name for method in methods for name, sums in self._sums[task, method].items() if sums[0].any()})
    none = np.zeros((3, len(self.channels)))
    stacked = {}
    for method in methods:
      of_people = [self._sums[task, method].get(name, none) for name in names]
      stacked[method] = np.array(of_people).reshape(-1, *none.shape)
    self._check_same_cells(task, names, stacked)
    return names, stacked

  def _check_same_cells(self, task: Task, names: list[str], sums: dict[str, np.ndarray]) -> None:
    reference, *others = sums
    for method in others:
      differ = np.argwhere(sums[reference][:, 0] != sums[method][:, 0])
      if differ.size:
        p, c = differ[0]
        counts = [int(sums[each][p, 0, c]) for each in (reference, method)]
        raise ValueError(
          f"scores of {task.label}: {reference} and {method} were scored on different cells: participant {names[p]!r}, "
          f"channel {self.channels[c]!r} has {counts[0]} and {counts[1]}"
        )

  def _task_rows(self, task: Task, n_bootstrap: int, seed: int) -> list[Row]:
    people, of_methods = self._people(task)
    draws = _draws(len(people), n_bootstrap, seed)
    rows = []
    for method, sums in of_methods.items():
      total = sums.sum(axis=0)
      mse, mae = _with_mean(_ratio(total, 1)), _with_mean(_ratio(total, 2))
      interval = _interval(_with_mean(_ratio(_pool(draws, sums), 1)))
      contributors = np.concatenate([[len(people)], (sums[:, 0] > 0).sum(axis=0)])
      interval = np.where(contributors > 1, interval, np.nan)
      counts = np.concatenate([[total[0].sum()], total[0]]).astype(int)
      for c, channel in enumerate((ALL, *self.channels)):
        scores = (float(mse[c]), float(mae[c]), float(interval[0, c]), float(interval[1, c]))
        rows.append(Row(task.name, task.level, method, channel, int(counts[c]), *scores))
    return rows


def merge(parts: Iterable[Scores]) -> Scores:
  """Pools the scores of disjoint people, such as cross-validation folds.

  Raises:
    ValueError: nothing to merge, other channels, or a participant scored twice by the same method in the same task.
  """
  parts = list(parts)
  if not parts:
    raise ValueError("scores: nothing to merge")
  merged = Scores(parts[0].channels)
  for part in parts:
    if part.channels != merged.channels:
      raise ValueError(f"scores: cannot merge channels {list(part.channels)} with {list(merged.channels)}")
    for (task, method), people in part._sums.items():
      repeated = sorted(merged._sums[task, method].keys() & people.keys())
      if repeated:
        raise ValueError(f"scores: participant {repeated[0]!r} appears twice for {method}, {task.label}")
      merged._sums[task, method].update(people)
  return merged


def load_people(path: str | pathlib.Path) -> Scores:
  """Reads what `save_people` wrote; ValueError naming file and line if it is anything else."""
  sums: dict[tuple[Task, str, str], dict[str, tuple[float, ...]]] = collections.defaultdict(dict)
  channels: dict[str, None] = {}
  for where, line in _read(path, PEOPLE_COLUMNS):
    try:
      key = Task(line["task"], int(line["level"])), line["method"], line["participant"]
      numbers = float(int(line["n"])), float(line["sse"]), float(line["sae"])
    except (TypeError, ValueError) as error:
      raise ValueError(f"{where}: {error}") from None
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
      raise ValueError(f"{where}: n, sse, sae are {numbers}, expected finite numbers of at least 0")
    channel = line["channel"]
    if channel in sums[key]:
      raise ValueError(
        f"{where}: channel {channel!r} of participant {key[2]!r} appears twice for {key[1]}, {key[0].label}"
      )
    channels[channel] = None
    sums[key][channel] = numbers
  if not channels:
    raise ValueError(f"{path}: no rows")
  scores = Scores(tuple(channels))
  for (task, method, participant), of_channels in sums.items():
    missing = [channel for channel in channels if channel not in of_channels]
    if missing:
      raise ValueError(f"{path}: participant {participant!r} has no channel {missing[0]!r} for {method}, {task.label}")
    scores._sums[task, method][participant] = np.array([of_channels[channel] for channel in channels]).T
  return scores


def write_csv(path: str | pathlib.Path, rows: Sequence[Row]) -> None:
  """Writes the table: task, level, method, channel, n, mse, mae, ci_low, ci_high; NaN as an empty cell."""
  columns = [field.name for field in dataclasses.fields(Row)]
  _write(path, columns, ([_cell(value) for value in dataclasses.astuple(row)] for row in rows))


def format_table(rows: Sequence[Row], intervals: bool = True) -> str:
  """Lines for a terminal (and valid Markdown): mse of `all`, a line per task, a column per method, * at the best."""
  overall = [row for row in rows if row.channel == ALL]
  methods = list(dict.fromkeys(row.method for row in overall))
  lines = [["mse", *methods]]
  for task, level in dict.fromkeys((row.task, row.level) for row in overall):
    of_task = {row.method: row for row in overall if (row.task, row.level) == (task, level)}
    best = min((row.mse for row in of_task.values() if not math.isnan(row.mse)), default=math.nan)
    cells = [_score(of_task[method], best, intervals) if method in of_task else "" for method in methods]
    lines.append([Task(task, level).label, *cells])
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  lines.insert(1, ["-" * width for width in widths])
  padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
  return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def _score(row: Row, best: float, intervals: bool) -> str:
  if math.isnan(row.mse):
    return "-"
  interval = f" [{row.ci_low:.2f}, {row.ci_high:.2f}]" if intervals and not math.isnan(row.ci_low) else ""
  return f"{row.mse:.3f}{interval}{' *' if row.mse == best else ''}"


def _draws(people: int, n_bootstrap: int, seed: int) -> np.ndarray:
  """float64 [n_bootstrap, people]: how often each person was drawn, `people` draws with replacement."""
  if not people:
    return np.zeros((n_bootstrap, 0))
  return np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), n_bootstrap).astype(np.float64)


def _pool(draws: np.ndarray, sums: np.ndarray) -> np.ndarray:
  """Sums [draws, 3, C] of the people of each draw."""
  return np.tensordot(draws, sums, axes=1)


def _ratio(sums: np.ndarray, which: int) -> np.ndarray:
  """Mean error [..., C] out of sums [..., 3, C]: 1 for squared, 2 for absolute errors; NaN without cells."""
  n = sums[..., 0, :]
  return np.divide(sums[..., which, :], n, out=np.full(n.shape, np.nan), where=n > 0)


def _with_mean(errors: np.ndarray) -> np.ndarray:
  """[..., 1 + C]: the mean over the channels that are not NaN, then the channels."""
  known = ~np.isnan(errors)
  total, count = np.where(known, errors, 0).sum(axis=-1, keepdims=True), known.sum(axis=-1, keepdims=True)
  overall = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
  return np.concatenate([overall, errors], axis=-1)


def _percent(sums: np.ndarray, others: np.ndarray) -> np.ndarray:
  """[...]: how far the mean mse of sums [..., 3, C] lies above others'; not finite where those are 0."""
  ours, theirs = (_with_mean(_ratio(each, 1))[..., 0] for each in (sums, others))
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.asarray(100 * (ours / theirs - 1))


def _interval(samples: np.ndarray) -> np.ndarray:
  """[2, ...]: percentiles over the draws [draws, ...] that are not NaN; NaN where there is none."""
  flat = samples.reshape(len(samples), -1)
  bounds = np.full((2, flat.shape[1]), np.nan)
  for i, column in enumerate(flat.T):
    known = column[~np.isnan(column)]
    if known.size:
      bounds[:, i] = np.percentile(known, INTERVAL)
  return bounds.reshape(2, *samples.shape[1:])


def _cell(value: Any) -> Any:
  if isinstance(value, float):
    return "" if math.isnan(value) else f"{value:.6g}"
  return value


def _write(path: str | pathlib.Path, columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
  with pathlib.Path(path).open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)


def _read(path: str | pathlib.Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
  """Yields ("file line 2", {column: text}) for each line after the header."""
  try:
    text = pathlib.Path(path).read_bytes().decode()
  except FileNotFoundError:
    raise ValueError(f"{path}: no such file") from None
  except UnicodeDecodeError:
    raise ValueError(f"{path}: not UTF-8 text, expected CSV") from None
  reader = csv.reader(io.StringIO(text, newline=""))
  header = next(reader, None)
  if header != list(columns):
    raise ValueError(f"{path}: columns are {header}, expected {list(columns)}")
  for line in reader:
    where = f"{path} line {reader.line_num}"
    if len(line) != len(columns):
      raise ValueError(f"{where}: {len(line)} cells, expected {len(columns)}")
    yield where, dict(zip(columns, line, strict=True))
