"""Numbers and rows as every CSV file of this project has them."""

from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

PERCENTILES = (2.5, 97.5)


def write_rows(path: str | pathlib.Path, columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
  """Any CSV file of ours: lines under columns, in a folder that is made."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)


def csv_field(value: Any) -> Any:
  """A number with six digits, NaN as an empty cell; anything else as it is."""
  if isinstance(value, float):
    return "" if math.isnan(value) else f"{value:.6g}"
  return value
