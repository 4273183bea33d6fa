"""A workdir as the report reads it: whatever is there, and the command that makes what is not."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections

from aim.evaluation import results
from aim.evaluation.results import Result, ResultsError
from aim.inference import pretrained
from data_pipelines.dataset import Dataset
from data_pipelines.errors import UserError
from data_pipelines.page.blocks import TextLine

# Results in the common columns: the file, and the mode that writes it.
RESULTS = {
  "generative": ("generative.csv", "evaluate"),
  "probe": ("probe/results.csv", "probe"),
  "finetune": ("finetune/results.csv", "finetune"),
  "robustness": ("robustness/results.csv", "robustness"),
}


class Workdir:
  """One run. `label` tells it from the others on the page; it is the model's name where that is enough."""

  def __init__(
    self,
    path: pathlib.Path,
    config: ml_collections.ConfigDict,
    opener: Callable[[ml_collections.ConfigDict], Dataset],
    trained: str | pathlib.Path | None = None,
  ):
    self.path, self.config, self.trained = path, config, trained or path
    self.model_name = self.label = config.name
    self.missing: dict[str, str] = {}  # why there is no model or dataset, one line each
    self._opener = opener

  @functools.cached_property
  def model(self) -> pretrained.Pretrained | None:
    try:
      return pretrained.load(self.trained, self.config.evaluate.batch_size)
    except UserError as error:
      self.missing["model"] = str(error)
      return None

  @functools.cached_property
  def dataset(self) -> Dataset | None:
    """What the model was trained on."""
    try:
      return self._opener(self.config)
    except UserError as error:
      self.missing["dataset"] = str(error)
      return None

  @functools.cached_property
  def journal(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that have a loss, by step; of a step that was repeated the last."""
    path = self.path / "metrics.jsonl"
    lines: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else (), start=1):
      try:
        entry = json.loads(line)
        if "loss" in entry:
          lines[int(entry["step"])] = entry
      except (ValueError, KeyError, TypeError):
        raise ResultsError(f"{path} line {number}: {line[:60]!r}, expected JSON with a step") from None
    return [lines[step] for step in sorted(lines)]

  def results(self, kind: str) -> list[Result]:
    """Those of a file of RESULTS, none where it is not there; ResultsError names file and line of a bad one."""
    path = self.path / RESULTS[kind][0]
    return results.read_csv(path) if path.is_file() else []

  def hint(self, file: str, mode: str) -> TextLine:
    """That a file is not there, and the command that makes it."""
    command = f"python -m aim.main --config=... --workdir={self.path} --mode={mode}"
    return TextLine(f"{self.label}: no {file} yet. It is made by", "hint", command)


def tell_apart(workdirs: Sequence[Workdir]) -> None:
  """Adds the folder to the label of every model whose name another has too."""
  names = [workdir.model_name for workdir in workdirs]
  for workdir in workdirs:
    if names.count(workdir.model_name) > 1:
      workdir.label = f"{workdir.model_name} ({workdir.path.name})"


def _by_seed(rows: Sequence[Result]) -> list[Result]:
  """Each seed's rows told apart by their task, where a file has several seeds."""
  if len({row.seed for row in rows}) < 2:
    return list(rows)
  return [dataclasses.replace(row, task=f"{row.task} (seed {row.seed})") for row in rows]


def together(workdirs: Sequence[Workdir], kind: str) -> list[Result]:
  """The results of all, each model under its workdir's label; what several workdirs say of a baseline is there once."""
  found: dict[tuple[str, ...], Result] = {}
  for workdir in workdirs:
    for result in _by_seed(workdir.results(kind)):
      model = workdir.label if result.model == workdir.model_name else result.model
      key = (result.dataset, result.task, result.level, model, result.metric)
      found.setdefault(key, dataclasses.replace(result, model=model))
  labels = [workdir.label for workdir in workdirs]
  return sorted(found.values(), key=lambda result: result.model not in labels)  # our own first
