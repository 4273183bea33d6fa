"""What is kept of each training of --mode=finetune, so that a repeated command does what is missing and no more."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from typing import Any

import numpy as np

from aim.evaluation import predictions
from aim.evaluation.predictions import Predictions
from aim.evaluation.results import ResultsError
from aim.inference.pretrained import Pretrained

# config.finetune's values that no one cell depends on.
UNSEEN = ("tasks", "compare", "label_percent", "seeds", "bootstrap")
# config.probe's values that a task's classes and rows, and a head that starts as the probe, depend on.
LABELS = ("min_people_a_class", "window_minutes", "strengths", "pca")


@dataclasses.dataclass(frozen=True)
class FinetuneCell:
  """One training: a model on a task with a share of the labels.

  Attributes:
    settings: fingerprint of all else that its predictions depend on.
  """

  model: str
  task: str
  percent: float
  seed: int
  settings: str

  def path(self, folder: pathlib.Path) -> pathlib.Path:
    name = "-".join((self.model, self.task, f"{self.percent:g}", str(self.seed)))
    return folder / (re.sub(r"[^A-Za-z0-9_.-]+", "_", name) + ".json")

  def read(self, folder: pathlib.Path) -> list[Predictions] | None:
    """Its predictions; None where it has not been computed, or with other settings, or was cut short."""
    path = self.path(folder)
    try:
      found = json.loads(path.read_text())
      if found["cell"] != dataclasses.asdict(self):
        return None
      return predictions.read_csv(path.with_suffix(".csv"))
    except (OSError, ValueError, KeyError, TypeError, ResultsError):
      return None

  def write(self, folder: pathlib.Path, found: list[Predictions], about: dict[str, Any]) -> None:
    """Keeps predictions and what to know `about` the training; a kill leaves the whole of it or nothing."""
    path = self.path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table, record = path.with_suffix(".csv.part"), path.with_suffix(".json.part")
    predictions.write_csv(table, found)
    os.replace(table, path.with_suffix(".csv"))
    record.write_text(json.dumps({"cell": dataclasses.asdict(self), **about}, indent=2) + "\n")
    os.replace(record, path)  # last: a cell is there when its record is


def fingerprint(config: Any, model: Pretrained, request: Any) -> str:
  """Of the config, the checkpoint's parameters and what the dataset was built from."""
  settings = {key: value for key, value in config.finetune.to_dict().items() if key not in UNSEEN}
  labels = {key: config.probe[key] for key in LABELS}
  told = {"finetune": settings, "labels": labels, "data": request, "model": model.config.to_dict()}
  digest = hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=8)
  for name in sorted(model.params):
    digest.update(np.asarray(model.params[name]).tobytes())
  return digest.hexdigest()
