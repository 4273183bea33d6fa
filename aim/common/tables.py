"""Numbers and rows as every CSV file of this project has them."""

from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

PERCENTILES = (2.5, 97.5)  # the bounds of every 95 % interval


def write_rows(path: str | pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
  """Writes a CSV file and makes its folder.

  Args:
    path: the file.
    columns: its header.
    rows: one field per column each.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def csv_field(value: Any) -> Any:
  """A field of a CSV file: a float with six significant digits, NaN as an empty field; anything else unchanged."""
  if isinstance(value, float):
    return "" if math.isnan(value) else f"{value:.6g}"
  return value
