"""Numbers and rows as every CSV file of this project has them."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from data_pipelines import text_files

PERCENTILES = (2.5, 97.5)  # the bounds of every 95 % interval


def write_rows(path: str | pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
  """Writes a CSV file and makes its folder; text that a spreadsheet would run as a formula gets an apostrophe in front.

  Args:
    path: the file.
    columns: its header.
    rows: one field per column each.
  """
  text_files.write_csv(path, columns, rows)


def csv_field(value: Any) -> Any:
  """A field of a CSV file: a float with six significant digits, NaN as an empty field; anything else unchanged."""
  if isinstance(value, float):
    return "" if math.isnan(value) else f"{value:.6g}"
  return value
