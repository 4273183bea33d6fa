"""A dataset is the same bit by bit, whoever writes its shards: this process, several, or Apache Beam."""

import dataclasses
import importlib.util
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.build import build, main
from data_pipelines.day_windows import shards
from data_pipelines.day_windows.runners import Processes, in_this_process
from data_pipelines.errors import DatasetError, DuplicateError, SchemaError
from data_pipelines.npz import NpzSource
from data_pipelines.schema import Channel, Schema
from data_pipelines.simulator import Simulation
from data_pipelines.statistics import Accumulator
from tests import tiny

needs_beam = pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="apache-beam is not installed")
OTHERS = [
  pytest.param(["--workers=2"], id="processes"),
  pytest.param(["--runner=DirectRunner"], id="beam", marks=needs_beam),
]


def content(data_dir: pathlib.Path) -> dict[str, bytes]:
  """Every file of the datasets of a directory."""
  root = data_dir / "day_windows"
  return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def sources(folder: pathlib.Path) -> dict[str, list[str]]:
  """Flags of a build of each kind of source."""
  tiny.write_npz(folder / "days.npz", people=12, days=3)
  lines = [
    f"p{p},2024-03-{1 + i // 24:02d}T{i % 24:02d}:{5 * (i % 12):02d}:00Z,{name},{50 + (7 * i + p) % 60}"
    for p in range(6)
    for i in range(96)
    for name in ("heart_rate", "steps")
  ]
  (folder / "long.csv").write_text("\n".join(["participant,time,channel,value", *lines]) + "\n")
  table = ["--source=long_table", f"--input={folder}/long.csv", "--timezone=UTC", "--minutes_per_step=60"]
  return {
    "simulate": ["--source=simulate", "--participants=12", "--days=1"],
    "npz": ["--source=npz", f"--input={folder}/days.npz"],
    "import": [*table, "--max_missing=1"],
  }


@pytest.fixture(autouse=True)
def several_shards(monkeypatch):
  monkeypatch.setattr(shards, "SMALL_SHARD_BYTES", 1000)


@pytest.mark.parametrize("flags", OTHERS)
@pytest.mark.parametrize("kind", ["simulate", "npz", "import"])
def test_the_same_files_whoever_writes(tmp_path, kind, flags, capfd):
  given = [*sources(tmp_path)[kind], "--name=x", "--split=0.5,0.25,0.25"]
  assert main(["build", *given, f"--data_dir={tmp_path}/plain"]) == 0, capfd.readouterr().err
  assert main(["build", *given, f"--data_dir={tmp_path}/other", *flags]) == 0, capfd.readouterr().err
  plain, other = content(tmp_path / "plain"), content(tmp_path / "other")
  assert len([name for name in plain if ".array_record" in name]) > 3
  assert list(plain) and {n: v for n, v in plain.items() if other.get(n) != v} == {} and set(plain) == set(other)


def test_days_come_in_order_from_several_processes(tmp_path):
  source = NpzSource(tiny.write_npz(tmp_path / "days.npz", people=12, days=3))
  dataset = build(source, tmp_path, "x", runner=Processes(2))
  found = [(row["participant"].decode(), row["day"]) for row in dataset.days("pretrain")]
  assert found == [(who, day) for who in dataset.people("pretrain") for day in range(3)]
  assert dataset.participants()["participant"].to_pylist() == [
    *dataset.people("pretrain"),
    *dataset.people("tune"),
    *dataset.people("eval"),
  ]


@pytest.mark.parametrize("runner", [in_this_process, Processes(2)])
def test_faults_are_told_alike(tmp_path, runner):
  arrays = tiny.arrays(people=12, days=2, minutes_per_step=30)
  arrays["values"][13] = arrays["values"][1]
  np.savez(tmp_path / "twice.npz", **arrays)
  with pytest.raises(DuplicateError, match="has the same values as participant"):
    build(NpzSource(tmp_path / "twice.npz"), tmp_path, "twice", runner=runner)
  with pytest.raises(SchemaError, match="participant 'sim000005' has no days"):
    build(Idle(participants=8, days=1, seed=0), tmp_path, "idle", runner=runner)
  assert not list(tmp_path.glob("day_windows/*"))


@needs_beam
def test_faults_in_a_pipeline_are_told_alike(tmp_path):
  from data_pipelines.day_windows.beam import Beam

  test_faults_are_told_alike(tmp_path, Beam("DirectRunner"))


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="apache-beam is installed")
def test_without_apache_beam_the_extra_is_named(tmp_path, capsys):
  assert main(["build", "--source=simulate", "--name=x", f"--data_dir={tmp_path}", "--runner=DirectRunner"]) == 2
  assert capsys.readouterr().err == "error: --runner needs the package apache-beam: pip install 'lsm2-aim[beam]'\n"


def test_flags_that_exclude_each_other(tmp_path, capsys):
  base = ["build", "--source=simulate", "--name=x", f"--data_dir={tmp_path}"]
  assert main([*base, "--runner=", "--workers=2"]) == 2
  assert "--workers does not apply to --runner" in capsys.readouterr().err


def test_a_worker_that_dies_is_told(tmp_path):
  with pytest.raises(DatasetError, match="a worker process died"):
    build(Deadly(participants=8, days=1, seed=0), tmp_path, "x", runner=Processes(2))


class Idle(Simulation):
  def person(self, participant):
    person = super().person(participant)
    return dataclasses.replace(person, days=[]) if participant == "sim000005" else person


class Deadly(Simulation):
  def person(self, participant):
    import multiprocessing
    import os

    if multiprocessing.parent_process() is not None and participant == "sim000003":
      os._exit(9)
    return super().person(participant)


# ----- the plan


class Size:
  """A source of so many people and days of 26 x 1440."""

  schema = Schema(1, tuple(Channel(str(c)) for c in range(26)))

  def __init__(self, people: int, days: int):
    self.participants, self.n_days = [str(p) for p in range(people)], people * days


@given(st.integers(1, 3000), st.integers(1, 40))
def test_every_person_is_in_one_shard_in_order(people, days):
  source = Size(people, days)
  split = {"pretrain": source.participants[: people // 2], "tune": [], "eval": source.participants[people // 2 :]}
  planned = shards.plan(source, split, lambda name, i, of: f"{name}-{i}-of-{of}")
  for name, expected in split.items():
    mine = [shard for shard in planned if shard.split == name]
    assert [who for shard in mine for who in shard.people] == expected
    sizes = [len(shard.people) for shard in mine]
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert [shard.path for shard in mine] == [f"{name}-{i}-of-{len(mine)}" for i in range(len(mine))]


def test_how_many_shards(monkeypatch):
  monkeypatch.setattr(shards, "SMALL_SHARD_BYTES", 16 * 2**20)
  sizes = [0, 2**20, 16 * 2**20, 40 * 2**20, 2**30, 10 * 2**30, 2**40]
  assert [shards.count(size) for size in sizes] == [1, 1, 1, 3, 16, 40, 512]


@given(
  st.lists(
    st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=2), max_size=5), min_size=1, max_size=4
  )
)
def test_merged_statistics_are_those_of_all_days(groups):
  schema = Schema(720, (Channel("x"),))
  merged, whole = Accumulator(schema), Accumulator(schema)
  every = [day for group in groups for day in group]
  for group in groups:
    part = Accumulator(schema)
    if group:
      part.add(np.array(group, np.float32)[:, :, None])
    merged.merge(part)
  if not every:
    return
  whole.add(np.array(every, np.float32)[:, :, None])
  (ours, notes), (theirs, expected) = merged.finish(), whole.finish()
  assert notes == expected and ours.count.tolist() == theirs.count.tolist()
  for name in ("mean", "std", "min", "max", "time_mean", "time_count"):
    np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-4)


def test_one_shard_leaves_statistics_as_they_were(tmp_path):
  schema = Schema(720, (Channel("x"),))
  part, merged = Accumulator(schema), Accumulator(schema)
  part.add(np.array([[[0.1], [0.7]], [[1 / 3], [2.2]]], np.float32))
  merged.merge(part)
  for name, value in vars(part.finish()[0]).items():
    assert np.array_equal(getattr(merged.finish()[0], name), value)
  assert json.dumps(merged.finish()[1]) == "[]"
