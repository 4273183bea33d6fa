"""Finds whether the day or the month comes first in dates such as 04/06/2024, as the dates of a whole file show.

A date with a number above 12 can be read in one order only. A reader that expects the other order would drop it, and
put the first twelve days of every month into other months; so the file is looked through before it is read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.csv_batches import CsvBatch, parse_times

_SMALL, _LARGE = "(0?[1-9]|1[0-2])", "(1[3-9]|2[0-9]|3[01])"
_LONGEST = 40  # characters of a date in messages


def _pattern(first: str, second: str, mark: str) -> str:
  mark = re.escape(mark)
  return f"(^|[^0-9/.-]){first}{mark}{second}{mark}[0-9]{{2,4}}([^0-9/.-]|$)"


@dataclasses.dataclass
class DateOrder:
  """Evidence in a file's dates that the day comes first, and that the month does.

  Attributes:
    mark: what stands between the numbers: "/", "." or "-".
    day_first, month_first: the first date that can be read in this order only, as messages name it; "" if there is
      none.
  """

  mark: str
  day_first: str = ""
  month_first: str = ""

  def add(self, rows: CsvBatch, columns: Iterable[str]) -> None:
    """Takes note of the dates in columns of text."""
    for column in columns:
      self.day_first = self.day_first or self._first(rows, column, _LARGE, _SMALL)
      self.month_first = self.month_first or self._first(rows, column, _SMALL, _LARGE)

  def _first(self, rows: CsvBatch, column: str, first: str, second: str) -> str:
    place = pc.index(pc.match_substring_regex(rows[column], _pattern(first, second, self.mark)), True).as_py()
    return "" if place < 0 else f"{rows.where(place)} ({rows[column][place].as_py().strip()[:_LONGEST]!r})"

  def check(self, day_first: bool, because: str) -> None:
    """Refuses a file with a date that can only be read in the other order.

    Args:
      day_first: whether the dates are to be read with the day first.
      because: why, for the message.

    Raises:
      SchemaError: there is such a date.
    """
    other = self.month_first if day_first else self.day_first
    if other:
      own, not_own = ("day", "month") if day_first else ("month", "day")
      raise SchemaError(f"{other}: a date with the {not_own} first, expected the {own} first, {because}")


def orders_of_format(form: str) -> tuple[DateOrder, bool] | None:
  """The order to look for in times of a strptime format, and True if the day is first; None if it has no such dates."""
  match = re.search(r"%(d|m)([/.-])%(d|m)\2%[yY]", form)
  if match is None or match[1] == match[3]:
    return None
  return DateOrder(match[2]), match[1] == "d"


def check_format(rows: CsvBatch, columns: Iterable[str], form: str, because: str) -> None:
  """Refuses times that do not fit a strptime format, but do with its day and month exchanged, wherever these stand.

  Args:
    rows, columns: columns of text.
    form: the format.
    because: why it is expected, for the message.

  Raises:
    SchemaError: there is such a time.
  """
  numbers = re.findall(r"%([dm])", form.replace("%%", ""))
  if {*numbers} != {"d", "m"}:
    return
  exchanged = re.sub(r"%[%dm]", lambda match: {"%d": "%m", "%m": "%d"}.get(match[0], match[0]), form)
  for column in columns:
    texts = pc.fill_null(pc.utf8_trim_whitespace(rows[column]), "")
    unfit = np.flatnonzero(parse_times(texts, form)[1])
    fits = ~parse_times(texts.take(pa.array(unfit)), exchanged)[1]
    if fits.any():
      place = int(unfit[fits.argmax()])
      own, not_own = ("day", "month") if numbers[0] == "d" else ("month", "day")
      raise SchemaError(
        f"{rows.where(place)} ({texts[place].as_py()[:_LONGEST]!r}): a date with the {not_own} first, expected the "
        f"{own} first, {because}"
      )
