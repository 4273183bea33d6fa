"""Files and tables of scores: sums per person, which folds are merged from; errors per channel; a table to print."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from aim.common.tables import csv_field, write_rows
from aim.evaluation.difference import bounds
from aim.evaluation.generative.scores import ALL, SUMS, ScoreRow, Scores
from aim.evaluation.generative.tasks import GenerativeTask
from data_pipelines.errors import UserError
from data_pipelines.text_files import read_fields, read_number, read_whole_number

PEOPLE_COLUMNS = ("task", "level", "method", "channel", "participant", *SUMS)


def save_people(scores: Scores, path: str | pathlib.Path) -> None:
  """Writes the sums, one line per task, method, channel and participant; `load_people` returns them exactly."""
  write_rows(path, PEOPLE_COLUMNS, _lines(scores))


def _lines(scores: Scores) -> Iterator[tuple[Any, ...]]:
  for (task, method), people in scores.sums.items():
    for participant, sums in people.items():
      for channel, (n, *errors) in zip(scores.channels, sums.T, strict=True):
        yield task.name, task.level, method, channel, participant, int(n), *(repr(float(error)) for error in errors)


def load_people(path: str | pathlib.Path) -> Scores:
  """Reads what `save_people` wrote.

  Raises:
    UserError: the file is anything else; the message names file and line.
  """
  sums: dict[tuple[GenerativeTask, str, str], dict[str, tuple[float, ...]]] = collections.defaultdict(dict)
  channels: dict[str, None] = {}
  for where, line in _read(path, PEOPLE_COLUMNS):
    try:
      key = GenerativeTask(line["task"], read_whole_number(line["level"], "level")), line["method"], line["participant"]
      numbers = float(read_whole_number(line["n"], "n")), *(read_number(line[name], name) for name in SUMS[1:])
    except (TypeError, ValueError) as error:
      raise UserError(f"{where}: {error}") from None
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
      raise UserError(f"{where}: {', '.join(SUMS)} are {numbers}, expected finite numbers of at least 0")
    channel = line["channel"]
    if channel in sums[key]:
      raise UserError(
        f"{where}: channel {channel!r} of participant {key[2]!r} appears twice for {key[1]}, {key[0].label}"
      )
    channels[channel] = None
    sums[key][channel] = numbers
  if not channels:
    raise UserError(f"{path}: no rows")
  scores = Scores(tuple(channels))
  for (task, method, participant), of_channels in sums.items():
    missing = [channel for channel in channels if channel not in of_channels]
    if missing:
      raise UserError(f"{path}: participant {participant!r} has no channel {missing[0]!r} for {method}, {task.label}")
    scores.sums[task, method][participant] = np.array([of_channels[channel] for channel in channels]).T
  return scores


def write_channels(path: str | pathlib.Path, rows: Sequence[ScoreRow]) -> None:
  """Writes the table with the columns of ScoreRow, one line per task, method and channel; NaN is an empty field."""
  columns = [field.name for field in dataclasses.fields(ScoreRow)]
  write_rows(path, columns, ([csv_field(value) for value in dataclasses.astuple(row)] for row in rows))


def format_table(rows: Sequence[ScoreRow], intervals: bool = True) -> str:
  """A table for the terminal, also valid Markdown: mse over all channels, a line per task, a column per method.

  Args:
    rows: of `Scores.table`.
    intervals: whether to add the 95 % intervals.
  """
  overall = [row for row in rows if row.channel == ALL]
  methods = list(dict.fromkeys(row.method for row in overall))
  lines = [["mse", *methods]]
  for task, level in dict.fromkeys((row.task, row.level) for row in overall):
    of_task = {row.method: row for row in overall if (row.task, row.level) == (task, level)}
    best = min((row.mse for row in of_task.values() if not math.isnan(row.mse)), default=math.nan)
    fields = [_score(of_task[method], best, intervals) if method in of_task else "" for method in methods]
    lines.append([GenerativeTask(task, level).label, *fields])
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  lines.insert(1, ["-" * width for width in widths])
  padded = [[field.ljust(width) for field, width in zip(line, widths, strict=True)] for line in lines]
  return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def _score(row: ScoreRow, best: float, intervals: bool) -> str:
  if math.isnan(row.mse):
    return "-"
  interval = bounds(row.ci_low, row.ci_high, "{:.2f}".format) if intervals else ""
  return f"{row.mse:.3f}{interval}{' *' if row.mse == best else ''}"


def _read(path: str | pathlib.Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
  """Yields ("file line 2", {column: text}) for each line after the header."""
  try:
    text = pathlib.Path(path).read_bytes().decode()
  except FileNotFoundError:
    raise UserError(f"{path}: no such file") from None
  except UnicodeDecodeError:
    raise UserError(f"{path}: not UTF-8 text, expected CSV") from None
  reader = csv.reader(io.StringIO(text, newline=""))
  header = next(reader, None)
  if header != list(columns):
    raise UserError(f"{path}: columns are {header}, expected {list(columns)}")
  for line in reader:
    where = f"{path} line {reader.line_num}"
    if len(line) != len(columns):
      raise UserError(f"{where}: {len(line)} fields, expected {len(columns)}")
    (fields,) = read_fields([line])
    yield where, dict(zip(columns, fields, strict=True))
