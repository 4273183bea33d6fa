"""Imports that several processes share: the same datasets to the bit, the same errors, and resumed by any number."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import pickle
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from data_pipelines import runners
from data_pipelines.build import main
from data_pipelines.day_windows import shards
from data_pipelines.errors import DatasetError, UserError
from data_pipelines.ingest.gridding import spool, spool_to_days
from data_pipelines.ingest.imported_source import ImportedSource
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.input_files import ExportSet
from data_pipelines.runners import Processes
from tests.data_pipelines.runners.test_runners import content, needs_beam
from tests.robustness.exports_of_people import apple, fit, fitbit, packed, samsung, within, write
from tests.robustness.imported_days import ROOT

FLAGS = ["--source=auto", "--person_by=folder", "--max_missing=1", "--timezone=Europe/Berlin", "--name=x"]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
  """Every file is a group, and every person a batch."""
  monkeypatch.setattr(spool, "SMALLEST_GROUP", 1)
  monkeypatch.setattr(spool_to_days, "ROWS_PER_BATCH", 1)
  monkeypatch.setattr(shards, "SMALL_SHARD_BYTES", 1000)


def exports(folder: pathlib.Path) -> pathlib.Path:
  """Four kinds of exports of six people, of whom three have a damaged file and one two kinds."""
  files = {
    "anna/export.xml": apple(3, "Anna", "1990-01-01"),
    "bob/export.xml": apple(4, "Bob", "1980-01-01", 70)[:-60],  # cut off
    "carl/activity.fit": fit(5, 123),
    "carl/cut.fit": fit(6, 123)[:-40],
    "dora.zip": packed(fitbit(7)),
    **within("emil", {**fitbit(8), **fitbit(9, 80), **samsung("emil", 10, "aa")}),
    **within(
      "fred", {**samsung("fred", 11, "bb", 75), "Takeout/Fitbit/Global Export Data/steps-2024-06-11.json": "[{"}
    ),
  }
  return write(folder / "study", files)


def built(folder: pathlib.Path, source: pathlib.Path, *flags: str) -> dict[str, bytes]:
  """The files of a dataset that is built anew or continued."""
  assert main(["build", *FLAGS, f"--input={source}", f"--data_dir={folder}", *flags]) == 0
  assert not [*(folder / ".importing").iterdir()]
  return content(folder)


class OutOfOrder:
  """A runner that works on copies, in any order, and counts what it was given."""

  def __init__(self, random: random.Random):
    self.random, self.items = random, 0

  def __call__(self, work, items, report):
    outcomes = {}
    self.items += len(items)
    for n in self.random.sample(range(len(items)), len(items)):
      copied, item = pickle.loads(pickle.dumps((work, items[n])))
      try:
        outcomes[n] = pickle.dumps(copied(item, report))
      except UserError as error:
        outcomes[n] = error
    for _, outcome in sorted(outcomes.items()):
      if isinstance(outcome, UserError):
        raise outcome
      yield pickle.loads(outcome)


@pytest.fixture(params=[0, 1, pytest.param(None, marks=pytest.mark.slow)])
def out_of_order(request, monkeypatch):
  """Two processes, or instead of them a runner with another order."""
  if request.param is None:
    return None
  runner = OutOfOrder(random.Random(request.param))
  monkeypatch.setattr(runners, "Processes", lambda workers: runner if workers == 2 else Processes(workers))
  return runner


def test_two_processes_import_the_same(tmp_path, capsys, out_of_order):
  check_same_imports(tmp_path, capsys, "--workers=2")
  assert out_of_order is None or out_of_order.items > 20  # groups, batches and shards


@needs_beam
@pytest.mark.slow
def test_a_pipeline_imports_the_same(tmp_path, capsys):
  check_same_imports(tmp_path, capsys, "--runner=DirectRunner")


def check_same_imports(tmp_path: pathlib.Path, capsys, *flags: str) -> None:
  source = exports(tmp_path)
  alone = built(tmp_path / "alone", source)
  said = capsys.readouterr().out
  shared = built(tmp_path / "shared", source, *flags)
  assert alone == shared
  timeless = [re.sub(r"[0-9.]+ s; .*", "", text) for text in (said, capsys.readouterr().out)]
  assert timeless[0] == timeless[1]
  account = next(text.decode() for name, text in alone.items() if name.endswith("account.csv"))
  for damaged in ("bob/export.xml", "carl/cut.fit", "steps-2024-06-11.json"):
    assert damaged in account


def strict_failure(folder: pathlib.Path, source: pathlib.Path, capsys, *flags: str) -> str:
  assert main(["build", *FLAGS, f"--input={source}", f"--data_dir={folder}", "--strict", *flags]) == 2
  return capsys.readouterr().err.splitlines()[-1]


def test_two_processes_refuse_for_the_same_reason(tmp_path, capsys, out_of_order):
  check_same_errors(tmp_path, capsys, "--workers=2")


@needs_beam
@pytest.mark.slow
def test_a_pipeline_refuses_for_the_same_reason(tmp_path, capsys):
  check_same_errors(tmp_path, capsys, "--runner=DirectRunner")


def check_same_errors(tmp_path: pathlib.Path, capsys, *flags: str) -> None:
  source = exports(tmp_path)
  alone = strict_failure(tmp_path / "alone", source, capsys)
  assert "fred/Takeout/Fitbit/Global Export Data/steps-2024-06-11.json row 1: cut off" in alone
  assert strict_failure(tmp_path / "shared", source, capsys, *flags) == alone
  header = "participant,time,channel,value\n"
  tables = {f"{n}.csv": f"{header}{name},2024-01-01 10:00,steps,1\n" for n, name in enumerate(("b", "Ann", "c", "ann"))}
  source = write(tmp_path / "tables", tables)
  told = []
  for others in ([], flags):
    arguments = [
      "--source=long_table",
      f"--input={source}",
      f"--data_dir={tmp_path / f'y{len(told)}'}",
      "--name=y",
      *others,
    ]
    assert main(["build", *arguments]) == 2
    told.append(capsys.readouterr().err.splitlines()[-1])
  assert told[0] == told[1] and "3.csv: participant 'Ann' and 'ann'" in told[0], told


KILLED = """
import os, sys
from data_pipelines import build
from data_pipelines.ingest.gridding import spool, spool_group, spool_to_days, day_store

spool.SMALLEST_GROUP, spool_to_days.ROWS_PER_BATCH = 1, 1
moments = {"reading": (spool_group.SpoolWriter, "complete", 3), "gridding": (day_store.DayWriter, "add", 2)}
of, attribute, times = moments[sys.argv[1]]
original, calls = getattr(of, attribute), []

def call(self, *arguments):
  calls.append(0)
  if len(calls) > times:
    os.kill(os.getpid(), 9)
  return original(self, *arguments)

setattr(of, attribute, call)
build.main(["build", *sys.argv[2:]])
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["reading", "gridding"])
def test_another_number_of_processes_continues_a_killed_import(tmp_path, moment):
  source = exports(tmp_path)
  whole = built(tmp_path / "whole", source)
  flags = [*FLAGS, f"--input={source}", f"--data_dir={tmp_path / 'killed'}"]
  killed = subprocess.run([sys.executable, "-c", KILLED, moment, *flags], cwd=ROOT, capture_output=True, check=False)
  assert killed.returncode == -9, killed.stderr
  (work,) = (tmp_path / "killed" / ".importing").iterdir()
  assert len(list(work.glob("*/*.json"))) >= 3
  assert built(tmp_path / "killed", source, "--workers=2") == whole


SHARED = """
import sys
from data_pipelines import build
from data_pipelines.ingest.gridding import spool

if __name__ == "__main__":
  spool.SMALLEST_GROUP = 1
  sys.exit(build.main(["build", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_workers_end_with_the_import_that_was_killed(tmp_path):
  source = exports(tmp_path)
  whole = built(tmp_path / "whole", source)
  (tmp_path / "program.py").write_text(SHARED)
  flags = [*FLAGS, f"--input={source}", f"--data_dir={tmp_path / 'killed'}", "--workers=2"]
  program = [sys.executable, tmp_path / "program.py", *flags]
  process = subprocess.Popen(program, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
  while process.poll() is None and not [*(tmp_path / "killed").glob(".importing/*/readings/*.json")]:
    time.sleep(0.01)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  for _ in range(1000):
    if not group_lives(process.pid):
      break
    time.sleep(0.01)
  assert not group_lives(process.pid)
  assert built(tmp_path / "killed", source) == whole


def group_lives(group: int) -> bool:
  try:
    os.killpg(group, 0)
  except ProcessLookupError:
    return False
  return True


class Deadly(LongTable):
  """Reads tables, one of which kills the worker that reads it."""

  def read(self, export, name, account):
    if multiprocessing.parent_process() is not None and name == "2.csv":
      os._exit(9)
    return super().read(export, name, account)


@pytest.mark.slow
def test_a_dead_reader_is_reported(tmp_path):
  row = "participant,time,channel,value\na,2024-01-01 10:00,steps,1\n"
  source = write(tmp_path / "tables", {f"{n}.csv": row for n in range(4)})
  with pytest.raises(DatasetError, match="a worker process died, perhaps for lack of memory; try fewer --workers"):
    ImportedSource(ExportSet(source, Deadly()), tmp_path / "work", ImportOptions(max_missing=1), Processes(2))
