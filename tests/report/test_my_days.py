"""An export of a watch becomes a filled, embedded, drawn page with one command."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from aim.report.my_days import command, own_days
from data_pipelines.errors import UserError
from tests import tiny
from tests.report import my_days


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("model") / "watch"
  my_days.model().save(folder)
  return folder


def write(trained, output, source=None, data=None, data_dir="data", split="all", importer="auto"):
  paths = None if source is None else str(source), importer, "Europe/Berlin", None if data is None else str(data)
  command.write(str(trained), *paths, str(data_dir), split, str(output))
  return (output if output.suffix == ".html" else output / "index.html").read_text(encoding="utf-8")


def test_one_command_fills_embeds_and_draws_an_export(trained, tmp_path):
  source = my_days.export(tmp_path / "takeout.zip", 8)
  flags = f"--checkpoint={trained}", f"--input={source}", "--timezone=Europe/Berlin"
  ended = tiny.run("--mode=report", *flags, cwd=tmp_path)
  assert ended.code == 0, ended.err
  assert "absent, so treated as missing: glucose" in ended.err
  assert ended.out.splitlines()[-1].startswith("my_days/index.html: 9 days, ")  # in Berlin the last night is a day
  folder = tmp_path / "my_days"
  assert sorted(path.name for path in tmp_path.iterdir()) == ["my_days", "takeout.zip"]
  assert sorted(path.name for path in folder.iterdir()) == ["embeddings.parquet", "filled.npz", "index.html"]

  embeddings = pq.read_table(folder / "embeddings.parquet")
  assert embeddings["date"].to_pylist()[0] == "2020-06-01" and embeddings.num_columns == 2 + 16
  with np.load(folder / "filled.npz") as filled:
    assert filled["channels"].tolist() == ["heart_rate", "steps"]
    assert not np.isnan(filled["values"]).any() and filled["filled"].any() and not filled["filled"].all()
    assert filled["filled"][1, 10, 0] or filled["filled"][1, 11, 0], "hours without heart rate are filled"
  with pytest.raises(UserError, match="filled already"):
    own_days.read(str(folder / "filled.npz"), "auto", None, 60)

  page = (folder / "index.html").read_text(encoding="utf-8")
  assert page.count("<option>2020-06-") == 9 or page.count("<option>2020-0") == 9
  assert "filled in by the model" in page and "var(--s0)" in page and "var(--cause0)" in page
  assert "absent: treated as missing" in page and "takeout.zip (importer fitbit)" in page
  assert not re.search(r'(src|href)="(?!#|data:,")', page), "the page needs nothing but itself"
