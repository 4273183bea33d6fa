"""Names of channels, people, labels, models and tasks never lead out of the output folder, and never share a file."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.evaluation.finetuning.cells import FinetuneCell
from aim.evaluation.probing.learners import FittedProbe
from aim.studies.job_runner import slug as folder_part
from data_pipelines.build import build
from data_pipelines.errors import DatasetError
from data_pipelines.npz import NpzSource
from data_pipelines.page.chart import slug
from data_pipelines.text_files import file_name
from tests import tiny

HOSTILE = (
  *("/etc/passwd", "../../x", "..", ".", "", "a\0b", "-rf", "--help", "CON", "con.txt", "nul", "LPT1", "x" * 5000, "~"),
  *(
    "a b",
    "a_b",
    "a/b",
    "a\\b",
    "C:\\x",
    "a\nb",
    "心率",
    "心跳",
    "é" * 300,
    "\u202egpj.exe",
    "$(rm)",
    "a;b",
    "*",
    ".hidden",
    "\ud800",
  ),
)
names = st.sampled_from(HOSTILE) | st.text(max_size=30)
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@given(names, names)
def test_a_file_name_is_safe_short_and_unique(one, other):
  name = file_name(one)
  assert SAFE.fullmatch(name) and len(name.encode()) < 120 and name != ".."
  assert name.partition(".")[0].upper() not in ("CON", "NUL", "PRN", "AUX", "LPT1")
  assert (name == file_name(other)) == (one == other)
  assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", slug(one, other)) and len(slug(one, other)) < 120
  part = f"data-seed0-{folder_part(one)}-0123"
  assert pathlib.PurePath(part).name == part and len(part.encode()) < 200
  assert "\0" not in part


@pytest.mark.parametrize("name", ["age", "heart_rate", "LSM-2-fast-30-0", "2.5"])
def test_plain_names_stay_as_they_are(name):
  assert file_name(name) == name


def test_charts_in_other_scripts_do_not_share_a_file():
  assert slug("probe", "心率") != slug("probe", "心跳") and slug("probe", "age, day") == "probe-age-day"


@given(names, names)
def test_cells_of_a_study_stay_in_their_folder(model, task):
  cell = FinetuneCell(model, task, 50.0, 0, (), (), "")
  folder = pathlib.Path("/out/cells")
  assert cell.path(folder).parent == folder and cell.path(folder).suffix == ".json"


@pytest.mark.parametrize("name", HOSTILE)
def test_probes_are_saved_inside(name, tmp_path):
  column = np.zeros(1)
  path = tmp_path / "probes" / f"{file_name(name)}_day.npz"
  FittedProbe("x", "regression", (), column, column, column, np.zeros((1, 1)), column).save(path)
  assert [file.name for file in (tmp_path / "probes").iterdir()] == [path.name]


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in ("CON", "con.txt", "nul", "LPT1", "a_b")])
def test_a_dataset_with_such_a_name_is_refused(name, tmp_path):
  with pytest.raises(DatasetError, match="dataset name"):
    build(lambda: pytest.fail("it is not read"), tmp_path / "data", name)
  assert not (tmp_path / "data").exists()


def test_people_with_such_names_stay_inside_the_dataset(tmp_path):
  arrays = tiny.arrays(people=8)
  hostile = ["/etc/passwd", "../../x", "..", "-rf", "CON", "x" * 500, "a b", "a/b"]
  people = list(dict.fromkeys(arrays["participant"].tolist()))
  arrays["participant"] = np.array([hostile[people.index(name)] for name in arrays["participant"].tolist()])
  del arrays["labels"]
  np.savez(tmp_path / "days.npz", **arrays)
  dataset = build(NpzSource(tmp_path / "days.npz"), tmp_path / "data", "hostile")
  assert set(dataset.people("pretrain")) <= set(hostile)
  outside = [path.name for path in tmp_path.iterdir()]
  assert sorted(outside) == ["data", "days.npz"]
  assert not any(name in path.name for path in dataset.path.rglob("*") for name in ("passwd", "CON", "xxxx"))
