"""What a checkpoint holds beside its arrays: format, config, schema, statistics, the training data, checksums.

A config of another version is brought into the keys of this one here, and a run is compared with what it goes on from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

import aim.model.defaults
import aim.training.defaults
from aim.common import config_files
from data_pipelines.dataset import Dataset
from data_pipelines.errors import UserError
from data_pipelines.schema import Schema

# The number of the layout below. 1, which stored no number, had neither checksums nor the training data.
FORMAT = 2
# Keys that every format has, and keys that 1 did not have.
REQUIRED_KEYS = ("config", "schema", "statistics")
NEW_KEYS = ("format", "training_data", "checksums", "digest")

# Config keys under `model` that may change on resume: how a step is computed (after a move to another machine, for
# example), and the initial values, which no longer matter.
RESUMABLE_MODEL_KEYS = ("model.dtype", "model.remat", "model.attention", "model.qk_init")
# Config keys outside `model` that the model's function or the shapes of its parameters depend on.
OTHER_MODEL_KEYS = ("method", "data.impute", "views.prototypes")

# Config keys that were added after the first version, with the value that stands for what versions without the key did.
# Such a version's checkpoint gets this value, whatever the default is today. tests/robustness/test_compatibility.py
# refuses a new key of a default config that is not listed here.
MADE_WITH: dict[str, Any] = {
  "name": "LSM-2",
  "method": "mae",
  "form": "auto",
  "sizes": 6,
  "model.patch_channels": 1,
  "model.qk_init": 0.0,
  "model.attention": "auto",
  "model.decoder.tokens": "all",
  "data.impute": "none",
  "data.max_missing": 1.0,
  "data.max_participants": 0,
  "data.max_days": 0,
  "data.on_corrupt": "stop",
  "data.simulate": False,
  "mesh.slices": 1,
  "impute.short_holes": "decode",
}


class CheckpointError(UserError):
  """There is no usable checkpoint."""


class DamagedError(CheckpointError):
  """The checkpoint's save was never completed, or something of it is lost or changed."""


def run_metadata(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, Any]:
  """What the model's function needs beside arrays, as JSON."""
  keys = ("mean", "std", "min", "max")
  statistics = {key: np.asarray(getattr(dataset.statistics, key), np.float64).tolist() for key in keys}
  return {"config": config_files.to_dict(config), "schema": dataset.schema.to_dict(), "statistics": statistics}


def training_data(dataset: Dataset) -> dict[str, str]:
  """What names the content of the data that a run trains on."""
  return {
    "name": dataset.name,
    "content": dataset.digest,
    "pretrain": dataset.digest_of("pretrain"),
    "people": dataset.people_digest("pretrain"),
  }


def sealed(metadata: Mapping[str, Any], checksums: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
  """What is stored: `metadata` with the format, the checksums {item: {array: checksum}} and a digest of all of it."""
  content = {"format": FORMAT, **metadata, "checksums": checksums}
  return content | {"digest": _digest(content)}


def opened(stored: Mapping[str, Any], where: str) -> dict[str, Any]:
  """Checks what was stored, and returns it without its digest; format 1 has no "checksums".

  Args:
    stored: what a checkpoint has beside its arrays.
    where: names the checkpoint in messages.

  Raises:
    DamagedError: it is not what was stored, or another program wrote it.
    CheckpointError: it is of a later format than this version knows.
  """
  content = {key: value for key, value in stored.items() if key != "digest"}
  # Of these keys, all or none are there: a damaged checkpoint cannot pass for one of format 1.
  if any(key in stored for key in NEW_KEYS) and stored.get("digest") != _digest(content):
    raise DamagedError("is damaged: its metadata are not what was saved")
  number = stored.get("format", 1)
  if not isinstance(number, int) or number > FORMAT:
    raise CheckpointError(
      f"{where}: has format {number}, expected at most {FORMAT}: a later version of this program wrote it"
    )
  for key in REQUIRED_KEYS:
    if key not in stored:
      raise DamagedError(f"is not a checkpoint of this program: its metadata have no {key!r}")
  return content


def _digest(content: Mapping[str, Any]) -> str:
  return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def completed(config: Mapping[str, Any], where: str) -> ml_collections.ConfigDict:
  """A saved config in the keys of this version.

  A key that the saving version did not have gets the value of MADE_WITH, or else its default, and is reported.

  Raises:
    CheckpointError: it has a key that this version does not know and that the model's function depends on.
  """
  defaults = (aim.model.defaults.defaults(), aim.training.defaults.defaults())
  unknown = config_files.unknown_keys(config, defaults)
  changing = [key for key in unknown if changes_function(key)]
  if changing:
    raise CheckpointError(
      f"{where}: config key {', '.join(changing)} is not known to this version, and the model's function depends on "
      "it; use the version that wrote it, or a later one"
    )
  return config_files.with_defaults(config, defaults, where, MADE_WITH)


def changes_function(key: str) -> bool:
  """Whether the model's function, or the shapes of its parameters, depend on a config key."""
  return (
    key in OTHER_MODEL_KEYS
    or key.startswith("views.projection")
    or (key.startswith("model.") and key not in RESUMABLE_MODEL_KEYS)
    or (key.startswith("masking.") and key.count(".") == 1)  # like min_observed_share, which inference reads
  )


def check_resumable(saved: Mapping[str, Any], current: Mapping[str, Any], where: str) -> None:
  """Checks that a run can go on from a checkpoint, and prints the changes of config that it accepts.

  Args:
    saved: the checkpoint's metadata.
    current: run_metadata of the run, with its training_data.
    where: names the checkpoint in messages.

  Raises:
    CheckpointError: the checkpoint has another schema, other training data or another architecture.
  """
  schema_difference = Schema.from_dict(current["schema"]).difference(Schema.from_dict(saved["schema"]))
  if schema_difference:
    raise CheckpointError(f"{where} is of another schema: {schema_difference}")
  if saved["statistics"] != current["statistics"]:
    raise CheckpointError(f"{where} was trained on other data: its normalisation statistics differ")
  theirs, ours = saved.get("training_data"), current["training_data"]
  if theirs and theirs["pretrain"] != ours["pretrain"]:
    raise CheckpointError(
      f"{where} was trained on other data: the training days of dataset {ours['name']!r} are not those that it was "
      f"trained on (digest {theirs['pretrain']}, now {ours['pretrain']}), although their statistics are the same; "
      "restore the dataset from a copy, or train in another workdir"
    )
  saved_config = config_files.to_dict(completed(saved["config"], where))
  for key, ours_value, theirs_value in config_files.difference(current["config"], saved_config):
    if changes_function(key) and not key.startswith("masking."):
      raise CheckpointError(
        f"{where} is of another architecture: {key} is {theirs_value} there, {ours_value} in this config"
      )
    if key == "optimizer.ema" and bool(ours_value) != bool(theirs_value):
      raise CheckpointError(
        f"{where} is of another architecture: {key} is {theirs_value} there, {ours_value} in this config"
      )
    print(f"{where}: {key} is now {ours_value} (was {theirs_value})")


def told_about_data(saved: Mapping[str, str] | None, dataset: Dataset) -> str | None:
  """Says that a dataset is not the one that a model was trained on; None if it is, or if nobody knows.

  Args:
    saved: training_data of the model's checkpoint; None for one of format 1.
    dataset: what the model is used on.
  """
  if saved is None or saved["content"] == dataset.digest:
    return None
  change = (
    f"the content of dataset {dataset.name!r} has changed since the model was trained on it"
    if saved["name"] == dataset.name
    else f"the model was trained on dataset {saved['name']!r}, this is {dataset.name!r}"
  )
  if saved["people"] == dataset.people_digest("pretrain"):
    return f"{change}; the people trained on are the same, so none of its eval people was among them"
  return f"{change}; the people trained on are not its pretrain people, so its eval people may have been among them"
