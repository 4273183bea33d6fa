"""--mode=compare: several models trained and scored on the same people, and one table of all of them.

A cell of the comparison is one model on one dataset, or one fold of it, with one seed: a folder with the commands that
produce its numbers, each run in a process of its own. Finished commands are skipped, so a repeated study continues.
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
from aim.studies.compare.table import CompareCell, gather
from aim.studies.job_runner import Job, StudyModel
from data_pipelines.dataset import Dataset
from data_pipelines.text_files import counted

# Imputers and baselines are the same beside every model: they are run once, beside the first that they can run with.
NO_IMPUTERS = ("--config.evaluate.imputers=()",)
NO_BASELINES = ("--config.probe.baselines=False", "--config.finetune.compare=()")
NEED_LABELS = ("probe", "finetune", "robustness")
# Values of config.evaluate that do not change which values a model is scored on.
SAME_SCORED_VALUES = ("batch_size", "bootstrap", "imputers", "imputer_rows", "export", "external")


def compare(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Runs the cells of config.compare, then writes comparison.csv, comparison.md and commands.csv.

  Raises:
    UserError: a value or a file of days cannot be used; known before anything is built.
    CellError: a command failed.
  """
  requested = list(cells(config, workdir))
  job_runner.build_datasets(job_runner.datasets(config, "compare"), workdir)
  probes = {model.name: model.resolved.probe for model in _models(config.compare)}
  runnable = [_with_answerable_modes(cell, probes[cell.model], config.data.dir) for cell in requested]
  commands = sum(len(cell.commands) for cell in runnable)
  print(
    f"{workdir}: {counted(len(runnable), 'cell')}, {counted(commands, 'command')}; output: {workdir}/cells/*/log.txt",
    flush=True,
  )
  table = workdir / "comparison.csv"
  if table.exists() and any(job_runner.is_unfinished(cell) for cell in runnable):
    print(f"note: {table} and what is beside it are of an earlier run until this one ends", flush=True)
  job_runner.run(runnable, "compare", config.compare.jobs)
  gather(config.compare, runnable, workdir)


def cells(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Iterator[CompareCell]:
  """Yields all cells, those of a dataset together.

  Raises:
    UserError: a value or a file of days cannot be used.
  """
  study = config.compare
  models = _models(study)
  if "evaluate" in study.modes:
    _check_scored_values([model for model in models if model.reconstructs])
  for dataset in job_runner.datasets(config, "compare"):
    for seed in study.seeds:
      for model in models:
        job = Job.of(model, dataset, config.data.dir, (f"--config.seed={seed}",))
        # The same training with other evaluations goes on in the same folder.
        cell_name = f"{dataset.name}-seed{seed}-{job_runner.slug(model.name)}-{job.fingerprint('pretrain')}"
        folder = workdir / "cells" / cell_name
        modes = ["pretrain", *(mode for mode in study.modes if mode != "evaluate" or model.reconstructs)]
        commands = {mode: job.command(mode, folder) for mode in modes}
        yield CompareCell(dataset.label, dataset.name, seed, model.name, folder, commands)


def _models(study: ml_collections.ConfigDict) -> list[StudyModel]:
  if not study.models:
    raise ConfigError("config.compare.models is empty, expected configs to compare, as in experiments/compare_real.py")
  models: list[StudyModel] = []
  for entry in study.models:
    has_imputers = any(model.reconstructs for model in models)
    left_out = (*(NO_IMPUTERS if has_imputers else ()), *(NO_BASELINES if models else ()))
    models.append(StudyModel.parse(entry, (*study.common, *left_out)))
  names = [model.name for model in models]
  for name in names:
    if names.count(name) > 1:
      raise ConfigError(f"config.compare.models: {name!r} twice; --config.name=... gives one another name")
  if study.reference and study.reference not in names:
    raise ConfigError(f"config.compare.reference is {study.reference!r}, expected one of {', '.join(map(repr, names))}")
  return models


def _check_scored_values(models: Sequence[StudyModel]) -> None:
  """Raises ConfigError if models would be scored on different values, which no table can compare.

  The resolved configs are compared, so that it does not matter where a value is set and how it is written.
  """
  settings = [dict(config_files.leaves(config_files.to_dict(model.resolved.evaluate))) for model in models]
  for model, values in zip(models[1:], settings[1:], strict=True):
    for key, value in values.items():
      if key.split(".")[0] not in SAME_SCORED_VALUES and value != settings[0].get(key):
        raise ConfigError(
          f"config.compare.models: {model.name} would be scored on other values than {models[0].name}: "
          f"config.evaluate.{key} is {value} and {settings[0].get(key)}; set it for all in config.compare.common"
        )


def _with_answerable_modes(cell: CompareCell, probe: ml_collections.ConfigDict, data_dir: str) -> CompareCell:
  """The cell without the modes that need labels, if its dataset has none that its config.probe can use."""
  tasks, _ = label_tasks.usable_tasks(probe, Dataset.open(data_dir, cell.fold))
  if tasks:
    return cell
  kept = {mode: command for mode, command in cell.by_mode.items() if mode not in NEED_LABELS}
  return dataclasses.replace(cell, by_mode=kept)
