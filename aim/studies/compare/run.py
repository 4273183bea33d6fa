"""--mode=compare: several models trained and scored on the same people, and one table of all of them.

A cell of the comparison is one model on one data set, or fold of it, with one seed: a folder with the commands that
make its numbers, each run in a process of its own. What is done is not done again: a repeated command goes on where it
was.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import ml_collections

from aim.common import config_files
from aim.common.config_files import ConfigError
from aim.evaluation.probing import label_tasks
from aim.studies import job_runner
from aim.studies.compare.table import Cell, gather
from data_pipelines.dataset import Dataset

# The imputers, and what else stands beside a model, are the same beside all: they are run beside the first.
ALONE = ("--config.evaluate.imputers=()", "--config.probe.baselines=False", "--config.finetune.compare=()")
OF_LABELS = ("probe", "finetune", "robustness")
MODES = ("pretrain", "evaluate", "probe", "finetune", "robustness")
# Values of config.evaluate that the cells a model is scored on do not depend on.
NOT_OF_CELLS = ("batch_size", "bootstrap", "imputers", "imputer_rows", "export", "external")


def compare(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Runs every cell that config.compare asks for, then writes comparison.csv, comparison.md and commands.csv."""
  asked = list(cells(config, workdir))  # what cannot be used is told before anything is built
  job_runner.build(config, "compare", workdir)
  found = [_answerable(cell, config) for cell in asked]
  total = sum(len(cell.commands) for cell in found)
  print(f"{workdir}: {len(found)} cells, {total} commands; their output is in {workdir}/cells/*/log.txt", flush=True)
  job_runner.run(found, "compare", config.compare.jobs)
  gather(config.compare, found, workdir)


def cells(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Iterator[Cell]:
  """All cells, a data set's together; ConfigError for a value that cannot be used."""
  names = job_runner.datasets(config, "compare")
  for mode in config.compare.modes:
    if mode not in MODES[1:]:
      raise ConfigError(f"config.compare.modes: {mode!r} is none of {', '.join(MODES[1:])}")
  common = tuple(config.compare.common)
  if not config.compare.models:
    raise ConfigError("config.compare.models is empty: it names the configs to compare, as experiments/compare_real.py")
  models = [job_runner.model(entry, ALONE if i else ()) for i, entry in enumerate(config.compare.models)]
  taken = [model for _, _, model, _ in models]
  if len(set(taken)) < len(taken):
    twice = next(model for model in taken if taken.count(model) > 1)
    raise ConfigError(f"config.compare.models: {twice!r} twice; --config.name=... gives one another name")
  if "evaluate" in config.compare.modes:
    _check_cells([model for model in models if model[3] == "mae"], common)
  for dataset, fold in names:
    for seed in config.compare.seeds:
      for path, changes, model, method in models:
        folder = workdir / "cells" / f"{fold}-seed{seed}-{job_runner.slug(model)}"
        where = (f"--config.data.dir={config.data.dir}", f"--config.data.name={fold}", f"--config.seed={seed}")
        arguments = ("-m", "aim.main", f"--config={path}", *common, *changes, *where, f"--workdir={folder}")
        # Contrastive models reconstruct nothing.
        wanted = [mode for mode in config.compare.modes if mode != "evaluate" or method == "mae"]
        commands = tuple((*arguments, f"--mode={mode}") for mode in ("pretrain", *wanted))
        yield Cell(dataset, fold, seed, model, folder, commands)


def _check_cells(models: Sequence[tuple[str, list[str], str, str]], common: Sequence[str]) -> None:
  """ConfigError where models would be scored on different cells, which no table can compare: told before hours of
  training."""
  asked = {}
  for path, changes, name, _ in models:
    flags = [change.removeprefix("--config.evaluate.") for change in (*common, *changes)]
    given = dict(flag.split("=", 1) for flag in flags if "=" in flag and not flag.startswith("--"))
    plain = config_files.load(path).evaluate.to_dict()
    asked[name] = {key: str(given.get(key, plain[key])) for key in plain if key not in NOT_OF_CELLS}
  (first, wanted), *others = asked.items() or [("", {})]
  for name, found in others:
    for key, value in found.items():
      if value.replace(" ", "") != wanted[key].replace(" ", ""):
        raise ConfigError(
          f"config.compare.models: {name} would be scored on other cells than {first}: config.evaluate.{key} is "
          f"{value} and {wanted[key]}; give one in config.compare.common"
        )


def _answerable(cell: Cell, config: ml_collections.ConfigDict) -> Cell:
  """The cell without the modes that ask for labels, where its dataset has none."""
  asked, _ = label_tasks.usable_tasks(config.probe, Dataset.open(config.data.dir, cell.fold))
  if asked:
    return cell
  kept = tuple(command for command in cell.commands if command[-1].removeprefix("--mode=") not in OF_LABELS)
  return dataclasses.replace(cell, commands=kept)
