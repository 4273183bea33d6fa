"""A build that is killed at any moment leaves no dataset or the whole one, and the same command completes it."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import random
import signal

import pytest

from data_pipelines import build as build_module
from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError
from tests.data_pipelines.ingest.long_tables import make_rows, write_csv


def quiet_build(arguments):
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  os.dup2(1, 2)
  raise SystemExit(build_module.main(["build", *arguments]))


def opened(data_dir):
  try:
    return Dataset.open(data_dir, "x")
  except DatasetError as error:
    assert "no dataset 'x'" in str(error)
    return None


def commands(folder: pathlib.Path):
  """Builds that take about a second."""
  table = write_csv(folder, make_rows(10, days=5)[0])
  yield ["--source=simulate", "--participants=40", "--days=2"]
  yield ["--source=long_table", f"--input={table}", "--minutes_per_step=5"]


@pytest.mark.slow
def test_twenty_kills(tmp_path):
  server = multiprocessing.get_context("forkserver")
  server.set_forkserver_preload(["data_pipelines.build"])  # so that kills hit builds and not imports
  random_seconds = random.Random(0)
  for kind, command in enumerate(commands(tmp_path)):
    reference = tmp_path / f"reference{kind}"
    assert build_module.main(["build", *command, f"--data_dir={reference}", "--name=x"]) == 0
    digest = Dataset.open(reference, "x").digest
    arguments = [*command, f"--data_dir={tmp_path / str(kind)}", "--name=x", "--overwrite"]
    killed = 0
    while killed < 10:
      process = server.Process(target=quiet_build, args=(arguments,))
      process.start()
      process.join(random_seconds.uniform(0.05, 1.5))
      if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        killed += 1
      process.join()
      dataset = opened(tmp_path / str(kind))
      assert dataset is None or dataset.digest == digest
    assert build_module.main(["build", *arguments]) == 0
    assert Dataset.open(tmp_path / str(kind), "x").digest == digest
