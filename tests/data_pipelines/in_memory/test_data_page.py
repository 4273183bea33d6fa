"""The worked example of docs/data.md, on a file of the shape that it describes."""

import re

import numpy as np

from data_pipelines.dataset import Dataset
from tests import tiny

PAGE = tiny.ROOT / "docs" / "data.md"


def test_the_example_builds_a_dataset(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "empatica").mkdir()
  beats = 60 + np.arange(86_400) // 60 % 30
  lines = [1_717_452_000.0, 1.0, *beats]  # 2024-06-04 00:00 in Berlin, in summer
  (tmp_path / "empatica" / "HR.csv").write_text("\n".join(map(str, lines)) + "\n")
  (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
  exec(compile(example, str(PAGE), "exec"), {})
  (day,) = Dataset.open("data", "empatica").days("pretrain")
  assert day["date"] == b"2024-06-04" and np.array_equal(day["values"][:, 0], 60 + np.arange(1440) % 30)
