"""A workdir as the report reads it: the files that exist, and the command that writes each one that does not."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections

from aim.evaluation.results import Result, ResultsError, read_csv
from aim.evaluation.scored_model import ScoredModel, recorded, why_left_out
from aim.inference import loading
from aim.inference.pretrained import Pretrained
from aim.runtime import working_copy
from aim.training import heldout_curve
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError, UserError
from data_pipelines.page.blocks import TextLine
from data_pipelines.text_files import read_json_lines

# Files with the columns of aim/evaluation/results.py, and the mode that writes each.
RESULTS = {
  "generative": ("generative.csv", "evaluate"),
  "probe": ("probe/results.csv", "probe"),
  "finetune": ("finetune/results.csv", "finetune"),
  "robustness": ("robustness/results.csv", "robustness"),
}


class Workdir:
  """One run.

  Attributes:
    path: its folder.
    config: its config.
    trained: folder of the checkpoint.
    model_name: the model's name in the config and in results files.
    label: its name on the page: the model's name, with the folder where several runs share that name.
    missing: one line each on why there is no "model" or "dataset"; complete once these were asked for.
  """

  def __init__(
    self,
    path: pathlib.Path,
    config: ml_collections.ConfigDict,
    opener: Callable[[ml_collections.ConfigDict], Dataset],
    trained: str | pathlib.Path | None = None,
  ) -> None:
    """Opens nothing yet.

    Args:
      path: folder of the run.
      config: its config.
      opener: opens the dataset of a config; a UserError means that there is none.
      trained: folder of the checkpoint, by default `path`.
    """
    self.path, self.config, self.trained = path, config, trained or path
    self.model_name = self.label = config.name
    self.missing: dict[str, str] = {}
    self._opener = opener

  @functools.cached_property
  def model(self) -> Pretrained | None:
    """The trained model, or None; `missing` then says why."""
    try:
      return loading.load(self.trained, self.config.evaluate.batch_size)
    except UserError as error:
      self.missing["model"] = str(error)
      return None

  @functools.cached_property
  def dataset(self) -> Dataset | None:
    """The run's dataset, in the model's schema if there is a model; or None, and `missing` says why."""
    try:
      opened = self._opener(self.config)
      return self.model.matched(opened) if self.model else opened
    except UserError as error:
      self.missing["dataset"] = str(error)
      return None

  @functools.cached_property
  def train_log(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that have a loss, by step; the last line of a step that was repeated.

    Raises:
      ResultsError: a line is not JSON or has no step; the message names file and line.
    """
    return self._lines("loss")

  @functools.cached_property
  def heldout_log(self) -> list[dict[str, Any]]:
    """The same for the lines with a held-out loss, on people of the split "tune"."""
    return self._lines(heldout_curve.NAME)

  def _lines(self, name: str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that have a value of this name."""
    path = self.path / "metrics.jsonl"
    lines: dict[int, dict[str, Any]] = {}
    try:
      for number, entry in read_json_lines(path) if path.is_file() else ():
        if not isinstance(entry.get("step"), int):
          raise ResultsError(f"{path} line {number}: step is {entry.get('step')!r}, expected a whole number")
        if entry.get(name) is not None:  # null where every step of the interval was skipped
          lines[entry["step"]] = entry
    except SchemaError as error:
      raise ResultsError(str(error)) from None
    return [lines[step] for step in sorted(lines)]

  @functools.cached_property
  def _shown(self) -> ScoredModel | None:
    """The model that the page is about: the trained one, or where there is none, that of the first scores here."""
    if self.model:
      return ScoredModel.of(self.model)
    records = (recorded(self.path, mode) for _, mode in RESULTS.values())
    return next((model for model in records if model), None)

  @functools.cached_property
  def left_out(self) -> dict[str, str]:
    """{kind of RESULTS: why its scores are not shown as those of the model, in one line}."""
    lines = {
      kind: why_left_out(self.path, mode, self._shown)
      for kind, (file, mode) in RESULTS.items()
      if (self.path / file).is_file()
    }
    return {kind: line for kind, line in lines.items() if line}

  def results(self, kind: str) -> list[Result]:
    """The results of one file of RESULTS; empty where there is no file and where its scores are of another model.

    Raises:
      ResultsError, ScoredModelError: the file cannot be read; the message names file and line.
    """
    path = self.path / RESULTS[kind][0]
    return read_csv(path) if path.is_file() and kind not in self.left_out else []

  def hint(self, file: str, mode: str) -> TextLine:
    """Says that a file does not exist, with the command that writes it."""
    command = f"python -m aim.main --config=... --workdir={working_copy.renamed(str(self.path))} --mode={mode}"
    return TextLine(f"{self.label}: there is no {file} yet. This command writes it:", "hint", command)


def set_labels(workdirs: Sequence[Workdir]) -> None:
  """Adds the folder to the label of every model whose name occurs twice."""
  names = [workdir.model_name for workdir in workdirs]
  for workdir in workdirs:
    if names.count(workdir.model_name) > 1:
      workdir.label = f"{workdir.model_name} ({workdir.path.name})"


def _by_seed(rows: Sequence[Result]) -> list[Result]:
  """Adds the seed to the task's name where a file has several seeds."""
  if len({row.seed for row in rows}) < 2:
    return list(rows)
  return [dataclasses.replace(row, task=f"{row.task} (seed {row.seed})") for row in rows]


def merged_results(workdirs: Sequence[Workdir], kind: str) -> list[Result]:
  """The results of all workdirs, each model under its workdir's label; a baseline that several have occurs once."""
  merged: dict[tuple[str, ...], Result] = {}
  for workdir in workdirs:
    for result in _by_seed(workdir.results(kind)):
      model = workdir.label if result.model == workdir.model_name else result.model
      key = (result.dataset, result.task, result.level, model, result.metric)
      merged.setdefault(key, dataclasses.replace(result, model=model))
  labels = [workdir.label for workdir in workdirs]
  return sorted(merged.values(), key=lambda result: result.model not in labels)  # the workdirs' own models first
