"""A dataset is the same bit for bit whether this process, several processes or Apache Beam write its shards."""

import dataclasses
import importlib.util
import pathlib
import signal

import numpy as np
import pytest

from data_pipelines.build import build, main
from data_pipelines.day_windows import shards
from data_pipelines.errors import DatasetError, DuplicateError, SchemaError
from data_pipelines.npz import NpzSource
from data_pipelines.runners import Processes, in_this_process
from data_pipelines.simulator import Simulation
from tests import tiny

needs_beam = pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="apache-beam is not installed")
OTHERS = [
  pytest.param(["--workers=2"], id="processes"),
  pytest.param(["--runner=DirectRunner"], id="beam", marks=needs_beam),
]


def content(data_dir: pathlib.Path) -> dict[str, bytes]:
  """The contents of every file of the datasets in a directory."""
  root = data_dir / "day_windows"
  return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def sources(folder: pathlib.Path) -> dict[str, list[str]]:
  """Flags that build from each kind of source."""
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
def test_every_runner_writes_the_same_files(tmp_path, kind, flags, capfd):
  flags_of_source = [*sources(tmp_path)[kind], "--name=x", "--split=0.5,0.25,0.25"]
  assert main(["build", *flags_of_source, f"--data_dir={tmp_path}/plain"]) == 0, capfd.readouterr().err
  assert main(["build", *flags_of_source, f"--data_dir={tmp_path}/other", *flags]) == 0, capfd.readouterr().err
  plain, other = content(tmp_path / "plain"), content(tmp_path / "other")
  assert len([name for name in plain if ".array_record" in name]) > 3
  assert list(plain) and {n: v for n, v in plain.items() if other.get(n) != v} == {} and set(plain) == set(other)


def test_days_come_in_order_from_several_processes(tmp_path):
  source = NpzSource(tiny.write_npz(tmp_path / "days.npz", people=12, days=3))
  dataset = build(source, tmp_path, "x", runner=Processes(2))
  stored = [(row["participant"].decode(), row["day"]) for row in dataset.days("pretrain")]
  assert stored == [(who, day) for who in dataset.people("pretrain") for day in range(3)]
  assert dataset.participants()["participant"].to_pylist() == [
    *dataset.people("pretrain"),
    *dataset.people("tune"),
    *dataset.people("eval"),
  ]


@pytest.mark.parametrize("runner", [in_this_process, Processes(2)])
def test_every_runner_reports_the_same_errors(tmp_path, runner):
  arrays = tiny.arrays(people=12, days=2, minutes_per_step=30)
  arrays["values"][13] = arrays["values"][1]
  np.savez(tmp_path / "twice.npz", **arrays)
  with pytest.raises(DuplicateError, match="has the same values as participant"):
    build(NpzSource(tmp_path / "twice.npz"), tmp_path, "twice", runner=runner)
  with pytest.raises(SchemaError, match="participant 'sim000005' has no days"):
    build(Idle(participants=8, days=1, seed=0), tmp_path, "idle", runner=runner)
  assert not list(tmp_path.glob("day_windows/*"))


@needs_beam
def test_a_pipeline_reports_the_same_errors(tmp_path):
  from data_pipelines.runners.beam import Beam

  test_every_runner_reports_the_same_errors(tmp_path, Beam("DirectRunner", tmp_path / "outcomes"))


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="apache-beam is installed")
def test_without_apache_beam_the_extra_is_named(tmp_path, capsys):
  assert main(["build", "--source=simulate", "--name=x", f"--data_dir={tmp_path}", "--runner=DirectRunner"]) == 2
  assert capsys.readouterr().err == "error: --runner needs the package apache-beam: pip install 'lsm2-aim[beam]'\n"


def test_flags_that_exclude_each_other(tmp_path, capsys):
  base = ["build", "--source=simulate", "--name=x", f"--data_dir={tmp_path}"]
  assert main([*base, "--runner=", "--workers=2"]) == 2
  assert "--workers does not apply to --runner" in capsys.readouterr().err


def test_a_dead_worker_is_reported(tmp_path):
  with pytest.raises(DatasetError, match="a worker process died"):
    build(Deadly(participants=8, days=1, seed=0), tmp_path, "x", runner=Processes(2))


class Idle(Simulation):
  """One person of this simulation has no days."""

  def person(self, participant):
    person = super().person(participant)
    return dataclasses.replace(person, days=[]) if participant == "sim000005" else person


class Deadly(Simulation):
  """Drawing one person of this simulation kills a worker process."""

  def person(self, participant):
    import multiprocessing
    import os

    if multiprocessing.parent_process() is not None and participant == "sim000003":
      os._exit(9)
    return super().person(participant)


def _blocks_interrupts(item, report):
  return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_an_interrupt_of_the_terminal_does_not_reach_the_processes():
  assert list(Processes(2)(_blocks_interrupts, [1, 2, 3], lambda amount: None)) == [True] * 3
  assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
