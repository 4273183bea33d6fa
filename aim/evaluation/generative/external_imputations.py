"""Imputations made by other programs of exported tasks (pypots_export.py), to be scored in the same contest.

A file has the participant, day, task, level and indicating_mask of the exported one, and `imputation`, z-scores like X.
"""

from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from aim.common.config_files import ConfigError
from aim.evaluation.generative.tasks import GenerativeTask
from data_pipelines.errors import SchemaError, UserError
from data_pipelines.text_files import check_regular

KEYS = ("imputation", "indicating_mask", "participant", "day", "task", "level")


class ExternalError(UserError):
  """A file that is no imputation of the values of this evaluation."""


class ExternalImputation:
  """Imputations of exported tasks, read from one file or from a folder with one file per task."""

  def __init__(self, name: str, path: str | pathlib.Path) -> None:
    """Reads them under a name for the tables; ExternalError names a file that cannot be used."""
    self.name = name
    path = pathlib.Path(path)
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
      raise ExternalError(f"{path}: no .npz file in this folder (config.evaluate.external)")
    self.tasks: dict[GenerativeTask, tuple[pathlib.Path, dict[str, np.ndarray]]] = {}
    for file in files:
      arrays = _load(file)
      task = _task_of(file, arrays)
      if task in self.tasks:
        raise ExternalError(f"{file}: {task.label} is also in {self.tasks[task][0]}")
      self.tasks[task] = file, arrays

  def has(self, task: GenerativeTask) -> bool:
    """True if there is a file for the task."""
    return task in self.tasks

  def check(self, tasks: tuple[GenerativeTask, ...], days: int) -> None:
    """Refuses a file of a task that is not evaluated, or of another number of days, with an ExternalError."""
    for task, (file, arrays) in self.tasks.items():
      if task not in tasks:
        raise ExternalError(f"{file}: {task.label} is not among the tasks of this evaluation")
      if len(arrays["imputation"]) != days:
        raise ExternalError(f"{file}: {len(arrays['imputation'])} days, expected {days}")

  def values(self, task: GenerativeTask, batch: Mapping[str, Any], scored: Bool[np.ndarray, "d s c"]) -> np.ndarray:
    """The imputed z-scores [D, S, C] of a batch of days.

    Raises:
      ExternalError: the file is of other days or other hidden values, or not finite on a scored value.
    """
    file, arrays = self.tasks[task]
    first = int(batch["place"][0])
    part = {name: arrays[name][first : first + len(scored)] for name in KEYS[:4]}
    for name in ("participant", "day"):
      if not np.array_equal(part[name].astype(str), batch[name].astype(str)):
        raise ExternalError(f"{file}: {name} of days {first} to {first + len(scored)} differ from those evaluated")
    if part["imputation"].shape != scored.shape:
      raise ExternalError(
        f"{file}: imputation has days of shape {part['imputation'].shape[1:]}, expected {scored.shape[1:]}"
      )
    if not np.array_equal(part["indicating_mask"], scored):
      raise ExternalError(
        f"{file}: indicating_mask differs from the values scored by this evaluation (another seed or dataset?)"
      )
    bad = np.argwhere(scored & ~np.isfinite(part["imputation"]))
    if len(bad):
      day, step, channel = bad[0]
      raise ExternalError(f"{file}: imputation of day {first + day}, step {step}, channel {channel} is not finite")
    return part["imputation"]


def read_external(text: str) -> dict[str, ExternalImputation]:
  """Reads the imputations that config.evaluate.external names, by name.

  Args:
    text: NAME=PATH, several separated by commas.

  Raises:
    ConfigError: the text is anything else.
    ExternalError: a file cannot be used.
  """
  imputations: dict[str, ExternalImputation] = {}
  for part in filter(None, text.split(",")):
    name, _, path = part.partition("=")
    if not name or not path or name in imputations:
      raise ConfigError(
        f"config.evaluate.external is {text!r}, expected NAME=FILE.npz or NAME=FOLDER with different names"
      )
    imputations[name] = ExternalImputation(name, path)
  return imputations


def _load(file: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    check_regular(file)
  except SchemaError as error:
    raise ExternalError(f"{error} (config.evaluate.external)") from None
  try:
    with np.load(file, allow_pickle=False) as arrays:
      missing = [name for name in KEYS if name not in arrays]
      if missing:
        raise ExternalError(f"{file}: key {missing[0]!r} is missing, expected {', '.join(KEYS)}")
      return {name: arrays[name] for name in KEYS}
  except ExternalError:
    raise
  except (ValueError, OSError, EOFError, zipfile.BadZipFile):
    raise ExternalError(f"{file}: not an npz file of arrays") from None


def _task_of(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> GenerativeTask:
  try:
    return GenerativeTask(str(arrays["task"]), int(arrays["level"]))
  except (TypeError, ValueError) as error:
    raise ExternalError(f"{file}: {error}") from None
