"""Stored results of each training of --mode=finetune, so that a repeated command computes only what is missing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import ml_collections
import numpy as np

from aim.evaluation import predictions
from aim.evaluation.predictions import Predictions
from aim.inference.pretrained import Pretrained
from data_pipelines.errors import SchemaError, UserError
from data_pipelines.text_files import (
  MOST_LINES_BYTES,
  file_name,
  json_text,
  parse_json_object,
  read_bytes,
  read_text,
  replace_text,
  replacing,
)

# Values of config.finetune that do not affect any single cell.
STUDY_KEYS = ("tasks", "compare", "label_percent", "seeds", "bootstrap")
# Values of config.probe that affect a task's classes and rows, and a head that starts as the probe.
PROBE_KEYS = ("min_people_a_class", "window_minutes", "strengths", "pca")


@dataclasses.dataclass(frozen=True)
class FinetuneCell:
  """One training: a model on a task with the labels of some people.

  Attributes:
    model: the model's name.
    task: the task's name.
    percent: share of the labels.
    seed: seed of the choice of people, of the head and of the order of days.
    people: people whose labels are fitted.
    tune_people: people whose labels decide when to stop.
    settings: fingerprint of everything else that the predictions depend on.
  """

  model: str
  task: str
  percent: float
  seed: int
  people: tuple[str, ...]
  tune_people: tuple[str, ...]
  settings: str

  @property
  def n_labelled_people(self) -> int:
    """People whose labels the training sees in all."""
    return len(self.people) + len(self.tune_people)

  def path(self, folder: pathlib.Path) -> pathlib.Path:
    """The cell's JSON record; its predictions lie beside it as CSV."""
    name = "-".join((self.model, self.task, f"{self.percent:g}", str(self.seed)))
    return folder / f"{file_name(name)}.json"

  def read(self, folder: pathlib.Path) -> list[Predictions] | None:
    """The stored predictions; None if there are none or they belong to another training.

    None too if they are not what was written, or an earlier version wrote them without a digest, which is printed.
    """
    path = self.path(folder)
    if not path.exists():
      return None
    try:
      record = parse_json_object(read_text(path), str(path))
      if record.get("cell") != self._as_json():
        return None
      table = path.with_suffix(".csv")
      found, expected = _digest(table), record.get("predictions_digest")
      if found != expected:
        fault = f"digest {found}, expected {expected}" if expected else f"{path.name} holds no digest of it"
        raise SchemaError(f"{table}: is not known to be what was written ({fault})")
      return predictions.read_csv(table)
    except UserError as error:
      print(f"note: {error}; this training is repeated", flush=True)
      return None

  def write(self, folder: pathlib.Path, predicted: list[Predictions], about: dict[str, Any]) -> None:
    """Stores the predictions, and the facts `about` the training; a kill leaves all of it or nothing."""
    path = self.path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path.with_suffix(".csv")) as table:
      predictions.write_csv(table, predicted)
      digest = _digest(table)
    # Last, because a cell counts as stored once it has a record.
    replace_text(path, json_text({"cell": self._as_json(), "predictions_digest": digest, **about}, indent=2) + "\n")

  def _as_json(self) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(self)))


def _digest(path: pathlib.Path) -> str:
  """BLAKE2b digest of a file; raises SchemaError if it cannot be read."""
  return hashlib.blake2b(read_bytes(path, MOST_LINES_BYTES), digest_size=16).hexdigest()


def fingerprint(config: ml_collections.ConfigDict, model: Pretrained, request: dict[str, Any]) -> str:
  """A hash of the config, the checkpoint's parameters and what the dataset was built from.

  Args:
    config: the whole config.
    request: the dataset's request.
  """
  finetune = {key: value for key, value in config.finetune.to_dict().items() if key not in STUDY_KEYS}
  probe = {key: config.probe[key] for key in PROBE_KEYS}
  settings = {"finetune": finetune, "labels": probe, "data": request, "model": model.config.to_dict()}
  digest = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=8)
  for name in sorted(model.params):
    digest.update(np.asarray(model.params[name]).tobytes())
  return digest.hexdigest()
