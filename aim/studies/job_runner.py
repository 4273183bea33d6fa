"""Runs the cells of a study, each a folder with commands that run in processes of their own.

A finished command is skipped: commands.json in the cell's folder knows it by its fingerprint
(aim/studies/fingerprints.py). The datasets and models that --mode=compare and --mode=scaling are configured with are
read here too.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fcntl
import pathlib
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import ml_collections
from tqdm import tqdm

import aim.evaluation.defaults
import aim.inference.defaults
import aim.model.defaults
import aim.studies.defaults
import aim.training.defaults
from aim.common import config_files, config_ranges
from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.evaluation import scored_model
from aim.runtime import devices
from aim.studies import fingerprints
from data_pipelines.build import npz_request, simulate_request
from data_pipelines.remote import copies
from data_pipelines.remote.objects import is_remote
from data_pipelines.text_files import LONGEST_NAME, json_text, read_json, replace_text

# What a study's models are made of.
_ROOMS = (aim.model, aim.training, aim.inference, aim.evaluation, aim.studies)


class CellError(ConfigError):
  """A command of a cell failed."""


@dataclasses.dataclass(frozen=True)
class Command:
  """Arguments of the Python interpreter, and the fingerprint of what they compute."""

  arguments: tuple[str, ...]
  fingerprint: str

  @property
  def mode(self) -> str:
    """Its --mode; "" if it has none."""
    flag = "--mode="
    return next((argument.removeprefix(flag) for argument in self.arguments if argument.startswith(flag)), "")

  @property
  def text(self) -> str:
    """The command for a shell."""
    return shlex.join(["python", *self.arguments])


@dataclasses.dataclass(frozen=True)
class FinishedCommand:
  """A command that ran to its end, as text for a shell, and how long it took."""

  text: str
  seconds: float


@runtime_checkable
class StudyCell(Protocol):
  """One job of a study: a folder and the commands that fill it."""

  @property
  def folder(self) -> pathlib.Path: ...

  @property
  def commands(self) -> tuple[Command, ...]: ...


@dataclasses.dataclass(frozen=True)
class StudyDataset:
  """Days that a study trains and scores on.

  Attributes:
    label: name in tables; the folds of a dataset share it.
    name: of the dataset in config.data.dir.
    identity: what its days depend on, for fingerprints.
    build: the command that builds it; None for one that must exist.
  """

  label: str
  name: str
  identity: Mapping[str, Any]
  build: Command | None


@dataclasses.dataclass(frozen=True)
class StudyModel:
  """An entry "CONFIG --config.key=value ..." of config.compare.models or config.scaling.models.

  Attributes:
    config_name: a shipped experiment or a file.
    overrides: "--config.key=value" flags.
    resolved: the config that both give.
  """

  config_name: str
  overrides: tuple[str, ...]
  resolved: ml_collections.ConfigDict

  @classmethod
  def parse(cls, entry: str, common: Sequence[str] = ()) -> StudyModel:
    """The model of an entry; its own overrides come after `common`, so that they win.

    Raises:
      ConfigError: no such experiment, an unknown key or a bad value.
    """
    config_name, *own = shlex.split(entry)
    overrides = (*common, *own)
    resolved = config_files.resolve(config_name, overrides)
    config_ranges.check(resolved, *(room.defaults.RANGES for room in _ROOMS), where=f"{config_name}: ")
    return cls(config_name, overrides, resolved)

  @property
  def name(self) -> str:
    """Name in tables."""
    return self.resolved.name

  @property
  def method(self) -> str:
    return self.resolved.method

  @property
  def reconstructs(self) -> bool:
    """True if it is a masked autoencoder; contrastive models reconstruct nothing."""
    return self.method == "mae"


@dataclasses.dataclass(frozen=True)
class Job:
  """A model with the last overrides of a cell on the cell's dataset: what fingerprints and commands are made of."""

  config_name: str
  overrides: tuple[str, ...]
  resolved: ml_collections.ConfigDict
  dataset: StudyDataset

  @classmethod
  def of(cls, model: StudyModel, dataset: StudyDataset, data_dir: str, overrides: Sequence[str]) -> Job:
    """The job of training `model` with further overrides on `dataset` in `data_dir`."""
    where = (f"--config.data.dir={data_dir}", f"--config.data.name={dataset.name}")
    key = lambda flag: flag.partition("=")[0]
    if own := {*map(key, model.overrides)} & {*map(key, (*overrides, *where))}:
      raise ConfigError(f"{model.name}: {min(own)} is set by the study for each of its models; leave it out")
    everything = (*model.overrides, *overrides, *where)
    return cls(model.config_name, everything, config_files.resolve(model.config_name, everything), dataset)

  def fingerprint(self, mode: str) -> str:
    """The fingerprint of what a --mode of this job computes."""
    return fingerprints.fingerprint(mode, self.resolved, self.dataset.identity)

  def command(self, mode: str, folder: pathlib.Path) -> Command:
    """The command that runs a --mode in the cell's folder."""
    config, workdir = f"--config={self.config_name}", f"--workdir={folder}"
    arguments = ("-m", "aim.main", config, *self.overrides, workdir, f"--mode={mode}")
    return Command(arguments, self.fingerprint(mode))


def run(
  cells: Sequence[StudyCell], description: str, jobs: int = 1, after: Callable[[], object] = lambda: None
) -> None:
  """Runs the unfinished commands of all cells, `jobs` cells at a time.

  Args:
    cells: the cells.
    description: of the progress bar.
    jobs: cells at once.
    after: called whenever a cell is finished.

  Raises:
    CellError: a command failed, or the code was edited meanwhile; cells that have not begun are left out.
  """
  pool = concurrent.futures.ThreadPoolExecutor(jobs)
  with progress_bar(sum(len(cell.commands) for cell in cells), description, "command") as bar:
    try:
      for future in concurrent.futures.as_completed([pool.submit(_run_cell, cell, bar) for cell in cells]):
        future.result()
        after()
    finally:
      pool.shutdown(cancel_futures=True)


def _run_cell(cell: StudyCell, bar: tqdm) -> None:
  cell.folder.mkdir(parents=True, exist_ok=True)
  with (cell.folder / "lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # a job of another scheduler may have the same cell
    for command in cell.commands:
      run_command(command, cell.folder, bar)


def run_command(command: Command, folder: pathlib.Path, bar: tqdm) -> None:
  """Runs one command, unless commands.json in the folder lists its fingerprint as finished and its results are whole.

  Raises:
    CellError: it failed, or the code was edited while it ran, so that its fingerprint may be wrong.
  """
  finished = command.fingerprint in finished_commands(folder)
  if finished and command.mode in scored_model.FILES and (why := why_not_own(folder, command.mode)):
    bar.write(f"{why}; computed again")
    finished = False
  if not finished:
    folder.mkdir(parents=True, exist_ok=True)
    code, began = fingerprints.code(), time.time()
    with (folder / "log.txt").open("a") as log:
      began_at = log.tell()
      print(f"$ {command.text}", file=log, flush=True)
      arguments = [sys.executable, *command.arguments]
      exit_code = subprocess.run(arguments, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if exit_code:
      raise CellError(f"{command.text}: exit {exit_code}: {_why(folder / 'log.txt', began_at)} ({folder / 'log.txt'})")
    if fingerprints.code() != code:
      raise CellError(f"{command.text}: the code was edited while it ran; repeat the command of the study")
    _record(command, round(time.time() - began, 1), folder)
  bar.update()


def _why(log: pathlib.Path, began_at: int) -> str:
  """The error of a command, whose output begins at this byte of the log, or its last line if it gave none.

  A command that a killed study left behind may still be writing to the same log.
  """
  lines = log.read_bytes()[began_at:].decode("utf-8", "replace").strip().splitlines()
  return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])


def why_not_own(folder: pathlib.Path, mode: str) -> str:
  """scored_model.why_not_own of a cell; the devices remain free for the commands of the study."""
  devices.use_cpu_alone()  # reading what stands beside a checkpoint's arrays asks JAX for its devices
  return scored_model.why_not_own(folder, mode)


def _record(command: Command, seconds: float, folder: pathlib.Path) -> None:
  path, flag = folder / "commands.json", f"--mode={command.mode}"
  # A mode that ran with other values has overwritten the results of those that ran before.
  overwritten = lambda entry: command.mode and isinstance(entry, dict) and flag in shlex.split(entry["command"])
  entries = {key: entry for key, entry in _entries(folder).items() if not overwritten(entry)}
  entries[command.fingerprint] = {"command": command.text, "seconds": seconds}
  replace_text(path, json_text(entries, indent=2) + "\n")


def finished_commands(folder: pathlib.Path) -> dict[str, FinishedCommand]:
  """{fingerprint: command} of the finished commands of a cell, from its commands.json.

  Versions before 2026-11-28 wrote {command: seconds}. Such commands keep their time but match no fingerprint.

  Raises:
    UserError: the file is damaged.
  """
  return {
    key: FinishedCommand(entry["command"], entry["seconds"]) if isinstance(entry, dict) else FinishedCommand(key, entry)
    for key, entry in _entries(folder).items()
  }


def is_unfinished(cell: StudyCell) -> bool:
  """True if a command of a cell is still to be run."""
  return not {command.fingerprint for command in cell.commands} <= finished_commands(cell.folder).keys()


def _entries(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / "commands.json"
  entries = read_json(path) if path.exists() else {}
  is_entry = lambda entry: (
    isinstance(entry.get("command"), str) and isinstance(entry.get("seconds"), int | float)
    if isinstance(entry, dict)
    else isinstance(entry, int | float)
  )
  if not isinstance(entries, dict) or not all(map(is_entry, entries.values())):
    raise CellError(f"{path}: is not a list of finished commands; remove it, and the cell's commands run again")
  return entries


def build_datasets(datasets: Sequence[StudyDataset], workdir: pathlib.Path) -> None:
  """Builds those datasets of a study that are not built yet.

  Raises:
    CellError: a build failed.
  """
  builds = [dataset.build for dataset in datasets if dataset.build]
  with progress_bar(len(builds), "build", "dataset") as bar:
    for command in builds:
      run_command(command, workdir, bar)


def datasets(config: ml_collections.ConfigDict, group: str) -> list[StudyDataset]:
  """The datasets of the study config[group].

  They are the folds of every npz file of config[group].inputs; without inputs, the dataset that config.data names; and
  without a name, the simulated cohort.

  Raises:
    UserError: a file or a dataset is missing, or an entry cannot be read.
  """
  data, study = config.data, config[group]
  if data.mix:
    raise ConfigError(f"config.data.mix: a study trains on one dataset at a time; use config.{group}.inputs")
  if study.inputs:
    return [
      _fold(data.dir, path, folds, fold)
      for path, folds in _inputs(config, group)
      for fold in range(folds)
      if not study.run_folds or fold in study.run_folds
    ]
  if data.name:
    return [StudyDataset(data.name, data.name, fingerprints.built_data(data.dir, data.name), None)]
  name = config_files.simulated_name(data)
  cohort = (f"--participants={data.participants}", f"--days={data.days}", f"--seed={data.seed}", f"--name={name}")
  identity = simulate_request(data.participants, data.days, data.seed)
  command = _build_command(("--source=simulate", *cohort), identity, data.dir)
  return [StudyDataset(name, name, identity, command)]


def _fold(data_dir: str, path: str, folds: int, fold: int) -> StudyDataset:
  label = pathlib.Path(path).stem
  name = f"{label}_fold{fold}of{folds}"
  identity = {**npz_request(path), "folds": folds, "fold": fold}
  source = ("--source=npz", f"--input={path}", "--max_missing=1")  # studies score all days of the file
  arguments = (*source, f"--folds={folds}", f"--fold={fold}", f"--name={name}")
  return StudyDataset(label, name, identity, _build_command(arguments, identity, data_dir))


def _build_command(arguments: tuple[str, ...], identity: Mapping[str, Any], data_dir: str) -> Command:
  where = data_dir if is_remote(data_dir) else str(pathlib.Path(data_dir).expanduser().resolve())
  fingerprint = fingerprints.digest({"build": dict(identity), "where": where, "code": fingerprints.code()})
  return Command(("-m", "data_pipelines.build", f"--data_dir={data_dir}", *arguments), fingerprint)


def _inputs(config: ml_collections.ConfigDict, group: str) -> list[tuple[str, int]]:
  """(npz file, number of folds) of entries such as "days.npz" or "days.npz:5"; remote files are copied here."""
  inputs = []
  for entry in config[group].inputs:
    start, separator, end = entry.rpartition("://")
    path, _, folds = end.partition(":")
    path = str(copies.local(f"{start}{separator}{path}"))
    if folds and not re.fullmatch("[0-9]{1,9}", folds):
      raise ConfigError(f"config.{group}.inputs: {entry!r}, expected FILE.npz or FILE.npz:FOLDS")
    inputs.append((path, int(folds or config[group].folds)))
  return inputs


def slug(name: str) -> str:
  """A name of at most LONGEST_NAME characters, of which only ASCII letters, digits, - and . are left, for folders."""
  return re.sub(r"[^A-Za-z0-9.-]", "_", name)[:LONGEST_NAME]
