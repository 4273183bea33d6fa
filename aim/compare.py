"""--mode=compare: several models trained and scored on the same people, and one table of all of them.

A cell of the comparison is one model on one data set, or fold of it, with one seed: a folder with the commands that
make its numbers, each run in a process of its own. What is done is not done again: a repeated command goes on where it
was.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import ml_collections
from tqdm import tqdm

from aim import labels, metrics, settings
from aim.comparison import Cell, gather
from aim.settings import ConfigError
from data_pipelines.dataset import Dataset

# The imputers, and what else stands beside a model, are the same beside all: they are run beside the first.
ALONE = ("--config.evaluate.imputers=()", "--config.probe.baselines=False", "--config.finetune.compare=()")
OF_LABELS = ("probe", "finetune", "robustness")
MODES = ("pretrain", "evaluate", "probe", "finetune", "robustness")


class CellError(ConfigError):
  """A command of a cell that failed."""


def compare(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Runs every cell that config.compare asks for, then writes comparison.csv, comparison.md and commands.csv."""
  list(cells(config, workdir))  # what cannot be used is told before anything is built
  builds = data_commands(config.compare, config.data)
  with metrics.progress(len(builds), "build", "dataset") as bar:
    for command in builds:
      _run(command, workdir, bar)
  found = [_answerable(cell, config) for cell in cells(config, workdir)]
  total = sum(len(cell.commands) for cell in found)
  print(f"{workdir}: {len(found)} cells, {total} commands; their output is in {workdir}/cells/*/log.txt", flush=True)
  pool = concurrent.futures.ThreadPoolExecutor(config.compare.jobs)
  with metrics.progress(total, "compare", "command") as bar:
    try:
      for done in concurrent.futures.as_completed([pool.submit(run, cell, bar) for cell in found]):
        done.result()
    finally:
      pool.shutdown(cancel_futures=True)
  gather(config.compare, found, workdir)


def data_commands(config: ml_collections.ConfigDict, data: ml_collections.ConfigDict) -> list[tuple[str, ...]]:
  """What builds the datasets: the folds of every npz of config.inputs, or the simulated cohort where there is none."""
  build = ("-m", "data_pipelines.build", f"--data_dir={data.dir}")
  if not config.inputs:
    cohort = (f"--participants={data.participants}", f"--days={data.days}", f"--seed={data.seed}")
    return [(*build, "--source=simulate", *cohort, f"--name={_simulated(data)}")]
  return [
    (*build, "--source=npz", f"--input={path}", f"--folds={folds}", f"--fold={fold}", f"--name={name}")
    for path, folds in _inputs(config)
    for fold, name in _folds(config, path, folds)
  ]


def cells(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Iterator[Cell]:
  """All cells, a data set's together; ConfigError for a value that cannot be used."""
  names = [(_simulated(config.data),) * 2]
  if config.compare.inputs:
    inputs = _inputs(config.compare)
    names = [(pathlib.Path(p).stem, name) for p, folds in inputs for _, name in _folds(config.compare, p, folds)]
  for mode in config.compare.modes:
    if mode not in MODES[1:]:
      raise ConfigError(f"config.compare.modes: {mode!r} is none of {', '.join(MODES[1:])}")
  common = tuple(config.compare.common)
  if not config.compare.models:
    raise ConfigError("config.compare.models is empty: it names the configs to compare, as experiments/compare_real.py")
  models = [_model(entry, alone=i > 0) for i, entry in enumerate(config.compare.models)]
  taken = [model for _, _, model, _ in models]
  if len(set(taken)) < len(taken):
    twice = next(model for model in taken if taken.count(model) > 1)
    raise ConfigError(f"config.compare.models: {twice!r} twice; --config.name=... gives one another name")
  for dataset, fold in names:
    for seed in config.compare.seeds:
      for path, changes, model, method in models:
        folder = workdir / "cells" / f"{fold}-seed{seed}-{_slug(model)}"
        where = (f"--config.data.dir={config.data.dir}", f"--config.data.name={fold}", f"--config.seed={seed}")
        arguments = ("-m", "aim.main", f"--config={path}", *common, *changes, *where, f"--workdir={folder}")
        # Contrastive models reconstruct nothing.
        wanted = [mode for mode in config.compare.modes if mode != "evaluate" or method == "mae"]
        commands = tuple((*arguments, f"--mode={mode}") for mode in ("pretrain", *wanted))
        yield Cell(dataset, fold, seed, model, folder, commands)


def _model(entry: str, alone: bool) -> tuple[str, list[str], str, str]:
  """(config file, overrides, name, method) of an entry of config.compare.models; `alone`: without what is no model."""
  path, *changes = shlex.split(entry)
  changes = [*ALONE, *changes] if alone else changes
  config = settings.load(path)
  given = dict(change.removeprefix("--config.").split("=", 1) for change in changes if "=" in change)
  return path, changes, given.get("name", config.name), given.get("method", config.method)


def _answerable(cell: Cell, config: ml_collections.ConfigDict) -> Cell:
  """The cell without the modes that ask for labels, where its dataset has none."""
  asked, _ = labels.tasks(config.probe, Dataset.open(config.data.dir, cell.fold))
  if asked:
    return cell
  kept = tuple(command for command in cell.commands if command[-1].removeprefix("--mode=") not in OF_LABELS)
  return dataclasses.replace(cell, commands=kept)


def run(cell: Cell, bar: tqdm) -> None:
  """Runs the commands of a cell that were not run to their end before."""
  for command in cell.commands:
    _run(command, cell.folder, bar)


def _run(command: Sequence[str], folder: pathlib.Path, bar: tqdm) -> None:
  """One command, unless commands.json of the folder tells that this very command was run to its end."""
  told, line = folder / "commands.json", shlex.join(["python", *command])
  done = json.loads(told.read_text()) if told.exists() else {}
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
    fresh = told.with_suffix(".new")
    fresh.write_text(json.dumps(done, indent=2) + "\n")
    fresh.replace(told)
  bar.update()


def _inputs(config: ml_collections.ConfigDict) -> list[tuple[str, int]]:
  """(npz, folds) of entries such as "days.npz" or "days.npz:5"."""
  found = []
  for entry in config.inputs:
    path, _, folds = entry.partition(":")
    if folds and not folds.isdigit():
      raise ConfigError(f"config.compare.inputs: {entry!r}, expected FILE.npz or FILE.npz:FOLDS")
    found.append((path, int(folds or config.folds)))
  return found


def _folds(config: ml_collections.ConfigDict, path: str, folds: int) -> list[tuple[int, str]]:
  """(fold, dataset name) of those that are run."""
  chosen = [fold for fold in range(folds) if not config.run_folds or fold in config.run_folds]
  return [(fold, f"{pathlib.Path(path).stem}_fold{fold}of{folds}") for fold in chosen]


def _simulated(data: ml_collections.ConfigDict) -> str:
  return f"simulated_{data.participants}x{data.days}_seed{data.seed}"


def _slug(name: str) -> str:
  return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)
