"""What became of the rows of an import, where the dataset keeps its account."""

from __future__ import annotations

import csv

from data_pipelines.dataset import Dataset
from data_pipelines.page.blocks import Block, Line, Table


def blocks(dataset: Dataset, name: str) -> list[Block]:
  """account.csv as a table; a line where there is none."""
  path = dataset.path / "account.csv"
  if not path.is_file():
    return [Line("No account of an import: the days did not come from a device's export.", "hint")]
  with path.open(newline="", encoding="utf-8") as file:
    columns, *rows = csv.reader(file)
  return [Table("Account of the import", columns, rows, folded=len(rows) > 12)]
