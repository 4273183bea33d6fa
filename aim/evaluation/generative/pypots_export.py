"""The contest's days as arrays, so that any other imputer can enter, in the layout of PyPOTS.

A folder holds train.npz (X: days of training people) and one file per task with X (NaN where missing or hidden), X_ori
(NaN where missing) and indicating_mask (the scored values), float32 and bool [days, steps, channels]. X and X_ori are
z-scores by the training people, clipped as in training; X * std + mean gives the channels' units. What another program
makes of them comes back through external_imputations.py.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from aim.common.progress import progress_bar
from aim.evaluation.generative.contest import HeldoutDays
from aim.evaluation.generative.tasks import GenerativeTask

TRAINING_DAYS = 1000  # in train.npz, at most


def file_name(task: GenerativeTask) -> str:
  """Name of the task's file, such as "random_30.npz"."""
  return f"{task.name}_{task.level}.npz"


def export_tasks(days: HeldoutDays, tasks: tuple[GenerativeTask, ...], folder: str | pathlib.Path) -> None:
  """Writes train.npz and a file for each task that hides observed values of these days."""
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
  _save(folder / "train.npz", X=days.training_days(TRAINING_DAYS), **about)
  with progress_bar(len(tasks), "export", "task") as bar:
    for task in tasks:
      parts = [_arrays(days, task, batch) for batch in days.batches()]
      arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
      if arrays["indicating_mask"].any():
        _save(folder / file_name(task), task=np.array(task.name), level=np.int64(task.level), **arrays, **about)
      bar.update()


def _arrays(days: HeldoutDays, task: GenerativeTask, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
  hidden = days.hidden(task, batch)
  truth = days.units.z_scores(batch["values"])
  return {
    "X": np.where(hidden, np.nan, truth),
    "X_ori": truth,
    "indicating_mask": days.scored(task, batch, hidden),
    "participant": batch["participant"],
    "day": batch["day"],
  }


def _save(path: pathlib.Path, **arrays: Any) -> None:
  with path.open("wb") as file:
    np.savez_compressed(file, **arrays)
