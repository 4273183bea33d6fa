"""The contest's cells as arrays, so that any other imputer can enter: out as PyPOTS has them, and back to be scored.

A folder holds train.npz (X: days of training people) and a file a task with X (NaN where missing or hidden), X_ori (NaN
where missing) and indicating_mask (the cells that are scored), float32 and bool [days, steps, channels]. X and X_ori
are z-scores of the training people, clipped as in training; X * std + mean gives the channels' units. An imputation is
a file of the same participant, day, task, level and indicating_mask with `imputation`, z-scores like X.
"""

from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.evaluation.generative.contest import HeldoutDays
from aim.evaluation.generative.tasks import GenerativeTask
from data_pipelines.errors import UserError

TRAINING_DAYS = 1000  # of train.npz, at most
KEYS = ("imputation", "indicating_mask", "participant", "day", "task", "level")


class ExternalError(UserError):
  """An imputation that is not of our cells."""


def file_name(task: GenerativeTask) -> str:
  return f"{task.name}_{task.level}.npz"


def export(days: HeldoutDays, tasks: tuple[GenerativeTask, ...], folder: str | pathlib.Path) -> None:
  """Writes train.npz and a file for each task that hides observed cells of these days."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  schema, scale = days.dataset.schema, days.units.scale
  about: dict[str, Any] = {
    "channels": np.array(schema.names),
    "units": np.array([channel.unit for channel in schema.channels]),
    "mean": np.asarray(scale.reference_mean),
    "std": np.asarray(scale.reference_std),
    "minutes_per_step": np.int64(schema.minutes_per_step),
  }
  _save(folder / "train.npz", X=days.training(TRAINING_DAYS), **about)
  with progress_bar(len(tasks), "export", "task") as bar:
    for task in tasks:
      parts = [_of_block(days, task, block) for block in days.blocks()]
      arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
      if arrays["indicating_mask"].any():
        _save(folder / file_name(task), task=np.array(task.name), level=np.int64(task.level), **arrays, **about)
      bar.update()


def _of_block(days: HeldoutDays, task: GenerativeTask, block: Mapping[str, Any]) -> dict[str, np.ndarray]:
  hidden = days.hidden(task, block)
  truth = days.units.of_values(block["values"])
  return {
    "X": np.where(hidden, np.nan, truth),
    "X_ori": truth,
    "indicating_mask": days.target(task, block, hidden),
    "participant": block["participant"],
    "day": block["day"],
  }


def _save(path: pathlib.Path, **arrays: Any) -> None:
  with path.open("wb") as file:
    np.savez_compressed(file, **arrays)


class External:
  """Imputations that somebody else made of exported tasks: a file, or a folder with a file a task."""

  def __init__(self, name: str, path: str | pathlib.Path):
    self.name = name
    path = pathlib.Path(path)
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
      raise ExternalError(f"{path}: no .npz file there (config.evaluate.external)")
    self.tasks: dict[GenerativeTask, tuple[pathlib.Path, dict[str, np.ndarray]]] = {}
    for file in files:
      arrays = _load(file)
      task = _task_of(file, arrays)
      if task in self.tasks:
        raise ExternalError(f"{file}: {task.label} is in {self.tasks[task][0]} too")
      self.tasks[task] = file, arrays

  def has(self, task: GenerativeTask) -> bool:
    return task in self.tasks

  def check(self, tasks: tuple[GenerativeTask, ...], days: int) -> None:
    """ExternalError for a task that is not evaluated, or another number of days."""
    for task, (file, arrays) in self.tasks.items():
      if task not in tasks:
        raise ExternalError(f"{file}: {task.label} is not among the tasks of this evaluation")
      if len(arrays["imputation"]) != days:
        raise ExternalError(f"{file}: {len(arrays['imputation'])} days, expected {days}")

  def take(self, task: GenerativeTask, block: Mapping[str, Any], target: np.ndarray) -> np.ndarray:
    """z [D, S, C] of the days of a block; ExternalError unless it is of the same cells and finite on them."""
    file, arrays = self.tasks[task]
    first = int(block["place"][0])
    part = {name: arrays[name][first : first + len(target)] for name in KEYS[:4]}
    for name in ("participant", "day"):
      if not np.array_equal(part[name].astype(str), block[name].astype(str)):
        raise ExternalError(f"{file}: {name} of days {first} to {first + len(target)} differ from those evaluated")
    if part["imputation"].shape != target.shape:
      raise ExternalError(
        f"{file}: imputation has days of shape {part['imputation'].shape[1:]}, expected {target.shape[1:]}"
      )
    if not np.array_equal(part["indicating_mask"], target):
      raise ExternalError(
        f"{file}: indicating_mask differs from the cells of this evaluation (another seed or dataset?)"
      )
    bad = np.argwhere(target & ~np.isfinite(part["imputation"]))
    if len(bad):
      day, step, channel = bad[0]
      raise ExternalError(f"{file}: imputation of day {first + day}, step {step}, channel {channel} is not finite")
    return part["imputation"]


def externals(text: str) -> dict[str, External]:
  """NAME=PATH,NAME=PATH by name; ConfigError for anything else."""
  found: dict[str, External] = {}
  for part in filter(None, text.split(",")):
    name, _, path = part.partition("=")
    if not name or not path or name in found:
      raise ConfigError(f"config.evaluate.external is {text!r}, expected NAME=FILE.npz or NAME=FOLDER, names different")
    found[name] = External(name, path)
  return found


def _load(file: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    with np.load(file, allow_pickle=False) as arrays:
      missing = [name for name in KEYS if name not in arrays]
      if missing:
        raise ExternalError(f"{file}: key {missing[0]!r} is missing, expected {', '.join(KEYS)}")
      return {name: arrays[name] for name in KEYS}
  except FileNotFoundError:
    raise ExternalError(f"{file}: no such file (config.evaluate.external)") from None
  except ExternalError:
    raise
  except (ValueError, OSError, EOFError, zipfile.BadZipFile):
    raise ExternalError(f"{file}: not an npz file of arrays") from None


def _task_of(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> GenerativeTask:
  try:
    return GenerativeTask(str(arrays["task"]), int(arrays["level"]))
  except (TypeError, ValueError) as error:
    raise ExternalError(f"{file}: {error}") from None
