"""Refuses to score on people or days that a model or a probe has learnt from."""

from __future__ import annotations

from collections.abc import Collection

from aim.common import datasets
from aim.inference.pretrained import Pretrained
from data_pipelines.dataset import Dataset
from data_pipelines.day_windows.duplicates import check_disjoint
from data_pipelines.errors import SplitError, UserError
from data_pipelines.splits import SPLITS


def check_held_out(model: Pretrained, dataset: Dataset) -> None:
  """Checks that the dataset fits the model, that nobody is in two splits, and that no day of eval was trained on.

  Prints a line if it is not the dataset that the model was trained on, and whether its eval people were.

  Raises:
    SchemaError: the dataset has another schema than the model.
    SplitError: a person is in two splits, by splits.json or by the records.
    DuplicateError: a day of the eval split is one that the model was pretrained on.
  """
  model.check_unseen_people(dataset)
  people = {split: set(dataset.people(split)) | _recorded_people(dataset, split) for split in SPLITS}
  for a in SPLITS:
    for b in SPLITS:
      shared = people[a] & people[b] if a < b else set()
      if shared:
        raise SplitError(
          f"dataset {dataset.name!r} ({dataset.path}): participant {min(shared)!r} is in splits {a!r} and {b!r}"
        )
  for pretraining in _pretraining_datasets(model):
    for scored in dataset.stored:
      if pretraining.path.resolve() != scored.path.resolve() and scored.num_days("eval"):
        check_disjoint(pretraining, scored)


def check_people_apart(task: str, training: Collection[str], scored: Collection[str]) -> None:
  """SplitError if a person is among both the training rows and the scored rows of a task."""
  shared = set(training) & set(scored)
  if shared:
    raise SplitError(f"task {task!r}: participant {min(shared)!r} is among those to train on and those to score on")


def _recorded_people(dataset: Dataset, split: str) -> set[str]:
  """The people whose days the records of a split hold."""
  if not dataset.num_days(split):
    return set()
  table = dataset.participants()
  return {p for p, s in zip(table["participant"].to_pylist(), table["split"].to_pylist(), strict=True) if s == split}


def _pretraining_datasets(model: Pretrained) -> tuple[Dataset, ...]:
  """The datasets that the model was pretrained on, if they are still on disk."""
  data = model.config.data
  try:
    return datasets.open_named(data).stored if datasets.is_named(data) else ()
  except UserError:
    return ()
