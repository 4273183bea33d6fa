"""The account of an import, and the bounds of its recipe."""

from __future__ import annotations

import csv
import pathlib

import pytest

from data_pipelines.atlas import import_account, page
from data_pipelines.build import main as build_main
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from tests import tiny


def imported(folder: pathlib.Path) -> Dataset:
  """A dataset imported from a long table: one value lies beyond the recipe's bounds, another is not a number."""
  times = [f"2024-03-0{1 + i // 24} {i % 24:02d}:00" for i in range(72)]
  values = [str(60 + i % 7) for i in range(70)] + ["999", "<b>no number</b>"]
  lines = [f"p0,{time},heart_rate,{value}" for time, value in zip(times, values, strict=True)]
  (folder / "long.csv").write_text("\n".join(["participant,time,channel,value", *lines]) + "\n")
  channel = "{name: heart_rate, unit: bpm, rule: mean, low: 20, high: 250}"
  (folder / "export").mkdir()
  (folder / "long.csv").rename(folder / "export" / "long.csv")
  for day in (1, 2):
    (folder / "export" / f"photo-2024-03-0{day}.jpg").write_bytes(b"x")
  (folder / "recipe.yaml").write_text(f"minutes_per_step: 60\nmax_missing: 0.95\nsignals:\n- {channel}\n")
  flags = ["--source=long_table", f"--input={folder}/export", f"--recipe={folder}/recipe.yaml"]
  assert build_main(["build", *flags, "--timezone=UTC", f"--data_dir={folder}/data", "--name=long"]) == 0
  return Dataset.open(folder / "data", "long")


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
  with path.open(newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


def test_the_account_and_the_bounds_of_an_import(tmp_path):
  dataset = imported(tmp_path)
  page.write(dataset, tmp_path / "atlas")
  kept, *dropped = rows_of(tmp_path / "atlas" / "account.csv")
  assert kept["outcome"] == "kept" and kept["rows"] == "70"
  assert sum(int(row["rows"]) for row in dropped) == 2
  text = (tmp_path / "atlas" / "index.html").read_text()
  assert "Read: 72 rows of 1 person." in text
  assert "Not read: files photo-#.jpg (of no kind that the importer reads): 2." in text
  [row] = rows_of(tmp_path / "atlas" / "values-ranges.csv")
  assert (row["allowed from"], row["to"], row["smallest"], row["largest"]) == ("20", "250", "60", "66")


def test_a_malformed_account_is_refused(tmp_path):
  dataset = tiny.dataset(tmp_path)
  (dataset.path / "account.csv").write_text("participant,rows,outcome,first\np0,many,read,\n")
  with pytest.raises(SchemaError, match=r"account.csv row 2: found 'p0,many,read,', expected participant,rows"):
    import_account.blocks(dataset, "account")
