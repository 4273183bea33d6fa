"""Counts of clipped truths: errors are in z-scores, and a truth beyond a channel's clip counts as the clip.

A heart rate of 190 bpm is then scored as the 166 bpm that are five SDs above the mean, from every method alike. Notes
under the tables of scores say which channels and tasks that concerns.
"""

from __future__ import annotations

import csv
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from aim.common.tables import csv_field, write_rows
from aim.evaluation.generative.tasks import GenerativeTask
from aim.evaluation.results import ResultsError
from data_pipelines.schema import Schema
from data_pipelines.text_files import (
  counted,
  percentage,
  plain_number,
  read_fields,
  read_number,
  read_whole_number,
)

MOST_TASKS = 4  # named per channel


@dataclasses.dataclass(frozen=True)
class ClippedTruth:
  """The scored truths of one task and channel, of which some are clipped.

  Attributes:
    task, level: see GenerativeTask.
    channel, unit: the channel and its unit.
    low, high: the values to which truths are clipped, in that unit.
    n, n_clipped: scored values, and how many of them are clipped.
    smallest, largest: the extremes of the scored truths.
  """

  task: str
  level: int
  channel: str
  unit: str
  low: float
  high: float
  n: int
  n_clipped: int
  smallest: float
  largest: float


class ClippingCounts:
  """Counts the clipped truths of every task and channel; counts of several processes can be added up."""

  def __init__(self, low: Float[np.ndarray, " c"], high: Float[np.ndarray, " c"]) -> None:
    """Starts at zero; `low` and `high` are the channels' clips in physical units, infinite where there is none."""
    self.low, self.high = low, high
    # Rows: scored values, clipped ones, the smallest and the largest.
    self.counts: dict[GenerativeTask, np.ndarray] = {}

  def add(self, task: GenerativeTask, values: Float[np.ndarray, "d s c"], scored: Bool[np.ndarray, "d s c"]) -> None:
    """Counts the truths of a batch of days in physical units."""
    clipped = scored & ((values < self.low) | (values > self.high))
    smallest, largest = (extreme(np.where(scored, values, fill), axis=(0, 1))
                         for extreme, fill in ((np.min, np.inf), (np.max, -np.inf)))  # fmt: skip
    self._include(task, np.array([scored.sum(axis=(0, 1)), clipped.sum(axis=(0, 1)), smallest, largest]))

  def include(self, other: ClippingCounts) -> None:
    """Adds the counts of other days."""
    for task, counts in other.counts.items():
      self._include(task, counts)

  def _include(self, task: GenerativeTask, new: Float[np.ndarray, "4 c"]) -> None:
    old = self.counts.get(task)
    if old is not None:
      new = np.array([*(old[:2] + new[:2]), np.minimum(old[2], new[2]), np.maximum(old[3], new[3])])
    self.counts[task] = new

  def clipped(self, schema: Schema) -> list[ClippedTruth]:
    """The tasks and channels with clipped truths."""
    return [
      ClippedTruth(
        *(task.name, task.level, channel.name, channel.unit, float(self.low[c]), float(self.high[c])),
        *(int(counts[0, c]), int(counts[1, c]), float(counts[2, c]), float(counts[3, c])),
      )
      for task, counts in self.counts.items()
      for c, channel in enumerate(schema.channels)
      if counts[1, c]
    ]


_COLUMNS = tuple(field.name for field in dataclasses.fields(ClippedTruth))


def write_csv(path: str | pathlib.Path, clipped: Iterable[ClippedTruth]) -> None:
  """Writes a row per task and channel."""
  write_rows(path, _COLUMNS, ([csv_field(value) for value in dataclasses.astuple(row)] for row in clipped))


def read_csv(path: str | pathlib.Path) -> list[ClippedTruth]:
  """Reads what write_csv wrote.

  Raises:
    ResultsError: the file is anything else.
  """
  whole, number = read_whole_number, read_number
  text = lambda field, column: field
  convert = (text, whole, text, text, number, number, whole, whole, number, number)
  rows: list[ClippedTruth] = []
  try:
    with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
      for line in read_fields(csv.reader(file)):
        if not rows and tuple(line) == _COLUMNS:
          continue
        rows.append(ClippedTruth(*(read(*field) for read, *field in zip(convert, line, _COLUMNS, strict=True))))  # type: ignore[operator]
  except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
    raise ResultsError(f"{path}: cannot be read as clipped truths: row {len(rows) + 2}: {error}") from None
  return rows


def notes(clipped: Sequence[ClippedTruth]) -> list[str]:
  """One line per channel: to which value its truths are clipped, and in which tasks how many are.

  Args:
    clipped: of one or several folds, whose clips may differ a little.
  """
  lines = []
  for channel in dict.fromkeys(row.channel for row in clipped):
    rows = [row for row in clipped if row.channel == channel]
    sides = [
      f"{word} {_range(limits)} {rows[0].unit}".rstrip()
      for word, limits in (
        ("above", [row.high for row in rows if row.largest > row.high]),
        ("below", [row.low for row in rows if row.smallest < row.low]),
      )
      if limits
    ]
    by_task: dict[str, list[ClippedTruth]] = {}
    for row in rows:
      by_task.setdefault(GenerativeTask(row.task, row.level).label, []).append(row)
    shares = {
      task: 100 * sum(row.n_clipped for row in of_task) / sum(row.n for row in of_task)
      for task, of_task in by_task.items()
    }
    named = sorted(shares, key=lambda task: -shares[task])[:MOST_TASKS]
    more = f", less in {counted(len(shares) - len(named), 'other task')}" if len(shares) > len(named) else ""
    lowest, highest = min(row.smallest for row in rows), max(row.largest for row in rows)
    extremes = f"truths reach {plain_number(lowest, 4)} to {plain_number(highest, 4)}"
    lines.append(
      f"{channel}: truth {' and '.join(sides)} is clipped to that ({extremes}): "
      + ", ".join(f"{percentage(shares[task])} of the values of {task}" for task in named)
      + more
    )
  return lines


def _range(limits: Sequence[float]) -> str:
  texts = list(dict.fromkeys(plain_number(limit, 4) for limit in (min(limits), max(limits))))
  return " to ".join(texts)
