"""Cells of a study: folders with commands, each run in a process of its own, what is done never done again.

Also what the commands of --mode=compare and --mode=scaling have in common: their datasets and their models.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import json
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import ml_collections
from tqdm import tqdm

from aim.common import config_files
from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar

Command = tuple[str, ...]
"""Arguments of the Python interpreter."""


class CellError(ConfigError):
  """A command of a cell that failed."""


@runtime_checkable
class Cell(Protocol):
  """Anything with a folder and the commands that fill it."""

  @property
  def folder(self) -> pathlib.Path: ...

  @property
  def commands(self) -> tuple[Command, ...]: ...


def run(cells: Sequence[Cell], description: str, jobs: int = 1) -> None:
  """Runs the commands of all cells that were not run to their end before, `jobs` cells at once; CellError at the first
  that fails."""
  pool = concurrent.futures.ThreadPoolExecutor(jobs)
  with progress_bar(sum(len(cell.commands) for cell in cells), description, "command") as bar:
    try:
      for done in concurrent.futures.as_completed([pool.submit(_run_cell, cell, bar) for cell in cells]):
        done.result()
    finally:
      pool.shutdown(cancel_futures=True)


def _run_cell(cell: Cell, bar: tqdm) -> None:
  cell.folder.mkdir(parents=True, exist_ok=True)
  with (cell.folder / "lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # another scheduler's job may have the same cell
    for command in cell.commands:
      run_command(command, cell.folder, bar)


def run_command(command: Command, folder: pathlib.Path, bar: tqdm) -> None:
  """One command, unless commands.json of the folder tells that this very command was run to its end."""
  done, line = seconds(folder), spoken(command)
  if line not in done:
    folder.mkdir(parents=True, exist_ok=True)
    began = time.time()
    with (folder / "log.txt").open("a") as log:
      print(f"$ {line}", file=log, flush=True)
      code = subprocess.run([sys.executable, *command], stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code:
      last = (folder / "log.txt").read_text().strip().splitlines()[-1]
      raise CellError(f"{line}: exit {code}: {last} ({folder / 'log.txt'})")
    done[line] = round(time.time() - began, 1)
    fresh = (folder / "commands.json").with_suffix(".new")
    fresh.write_text(json.dumps(done, indent=2) + "\n")
    fresh.replace(folder / "commands.json")
  bar.update()


def seconds(folder: pathlib.Path) -> dict[str, float]:
  """{command: seconds} of those that were run to their end in a cell's folder."""
  told = folder / "commands.json"
  return json.loads(told.read_text()) if told.exists() else {}


def spoken(command: Command) -> str:
  """For a shell."""
  return shlex.join(["python", *command])


def build(config: ml_collections.ConfigDict, group: str, workdir: pathlib.Path) -> None:
  """Builds the datasets of config[group] that are not built."""
  builds = data_commands(config, group)
  with progress_bar(len(builds), "build", "dataset") as bar:
    for command in builds:
      run_command(command, workdir, bar)


def data_commands(config: ml_collections.ConfigDict, group: str) -> list[Command]:
  """What builds the datasets: the folds of every npz of config[group].inputs, or the simulated cohort where there is
  neither one nor a name in config.data."""
  data, study = config.data, config[group]
  command = ("-m", "data_pipelines.build", f"--data_dir={data.dir}")
  if study.inputs:
    return [
      (*command, "--source=npz", f"--input={path}", f"--folds={folds}", f"--fold={fold}", f"--name={name}")
      for path, folds in _inputs(config, group)
      for fold, name in _folds(study, path, folds)
    ]
  if data.name:
    return []
  cohort = (f"--participants={data.participants}", f"--days={data.days}", f"--seed={data.seed}")
  return [(*command, "--source=simulate", *cohort, f"--name={config_files.simulated_name(data)}")]


def datasets(config: ml_collections.ConfigDict, group: str) -> list[tuple[str, str]]:
  """(data set, dataset) names of data_commands; the second tells the fold."""
  if config[group].inputs:
    inputs = _inputs(config, group)
    return [(pathlib.Path(p).stem, name) for p, folds in inputs for _, name in _folds(config[group], p, folds)]
  return [(config.data.name or config_files.simulated_name(config.data),) * 2]


def model(entry: str, changes: Sequence[str] = ()) -> tuple[str, list[str], str, str]:
  """(config file, overrides, name, method) of "FILE.py --config.key=value ...", after these overrides."""
  path, *own = shlex.split(entry)
  changes = [*changes, *own]
  config = config_files.load(path)
  given = dict(change.removeprefix("--config.").split("=", 1) for change in changes if "=" in change)
  return path, changes, given.get("name", config.name), given.get("method", config.method)


def slug(name: str) -> str:
  """As the name of a folder."""
  return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)


def _inputs(config: ml_collections.ConfigDict, group: str) -> list[tuple[str, int]]:
  """(npz, folds) of entries such as "days.npz" or "days.npz:5"."""
  found = []
  for entry in config[group].inputs:
    path, _, folds = entry.partition(":")
    if folds and not folds.isdigit():
      raise ConfigError(f"config.{group}.inputs: {entry!r}, expected FILE.npz or FILE.npz:FOLDS")
    found.append((path, int(folds or config[group].folds)))
  return found


def _folds(study: ml_collections.ConfigDict, path: str, folds: int) -> list[tuple[int, str]]:
  """(fold, dataset name) of those that are run."""
  chosen = [fold for fold in range(folds) if not study.run_folds or fold in study.run_folds]
  return [(fold, f"{pathlib.Path(path).stem}_fold{fold}of{folds}") for fold in chosen]
