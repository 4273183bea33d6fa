"""Metadata that a checkpoint holds beside its arrays: format, step, config, schema, statistics, data, checksums.

A run is compared here with what it goes on from, and a dataset with what a model was trained on.
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
from aim.common import config_files, seen_people
from aim.training import compatibility
from data_pipelines.dataset import Dataset
from data_pipelines.errors import UserError
from data_pipelines.schema import Schema

# The number of the layout below. 1, which stored no number, had neither checksums nor the training data; the first
# checkpoints of 2 have no step.
FORMAT = 2
# Keys that every format has, and keys that 1 did not have.
REQUIRED_KEYS = ("config", "schema", "statistics")
NEW_KEYS = ("format", "step", "training_data", "checksums", "digest")


class CheckpointError(UserError):
  """There is no usable checkpoint."""


class DamagedError(CheckpointError):
  """The checkpoint's save was never completed, or something of it is lost or changed."""


def run_metadata(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, Any]:
  """Config, schema and statistics as JSON: all that the model's function needs beside arrays."""
  keys = ("mean", "std", "min", "max")
  statistics = {key: np.asarray(getattr(dataset.statistics, key), np.float64).tolist() for key in keys}
  return {"config": config_files.to_dict(config), "schema": dataset.schema.to_dict(), "statistics": statistics}


def training_data(dataset: Dataset, subset: Mapping[str, Any] | None = None) -> dict[str, Any]:
  """Identity of the data and people that a run trains on; of a mix, also of each member, with its weight.

  Args:
    dataset: the data.
    subset: the limits of data_pipelines.subset.chosen_days; by default there are none.
  """
  subset = subset or {}
  named = {
    "name": dataset.name,
    "content": dataset.digest,
    "pretrain": dataset.digest_of("pretrain"),
    "people": dataset.people_digest("pretrain"),
    seen_people.RECORD: seen_people.record(dataset, subset),
  }
  if len(dataset.members) == 1:
    return named
  members = [
    {"name": member.name, "weight": weight, "stored": [stored.digest for stored in member.stored]}
    | seen_people.counts(member, subset)
    for member, weight in dataset.members
  ]
  return named | {"mix": members}


def sealed(metadata: Mapping[str, Any], checksums: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
  """`metadata` as it is stored: with the format, the checksums {item: {array: checksum}} and a digest of all of it."""
  content = {"format": FORMAT, **metadata, "checksums": checksums}
  return content | {"digest": digest(content)}


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
  # Of these keys, any one comes with the digest: a damaged checkpoint cannot pass for one of format 1.
  if any(key in stored for key in NEW_KEYS) and stored.get("digest") != digest(content):
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


def digest(content: Mapping[str, Any]) -> str:
  """A digest of JSON-able data, whatever the order of their keys."""
  return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def completed(config: Mapping[str, Any], where: str, tell_missing: bool = True) -> ml_collections.ConfigDict:
  """A saved config in the keys of this version (aim/training/compatibility.py, also for `tell_missing`).

  Raises:
    CheckpointError: it has a key that this version does not know and that the model's function depends on.
  """
  rooms = (aim.model.defaults.defaults(), aim.training.defaults.defaults())
  try:
    return compatibility.completed(config, rooms, where, tell_missing)
  except config_files.ConfigError as error:
    raise CheckpointError(str(error)) from None


def check_same_start(saved: Mapping[str, Any], current: Mapping[str, Any], where: str) -> None:
  """Checks that a run started from the weights that its config names.

  Args:
    saved: the config in the run's checkpoint.
    current: the config of the run.
    where: names the checkpoint in messages.

  Raises:
    CheckpointError: config.init is another.
  """
  theirs, ours = saved.get("init", {}), current.get("init", {})
  if not theirs.get("checkpoint") and not ours.get("checkpoint"):
    return
  for key in ours | theirs:
    if theirs.get(key, "") != ours.get(key, ""):
      raise CheckpointError(
        f"{where} had another start: config.init.{key} is {theirs.get(key, '')!r} there, {ours.get(key, '')!r} in this "
        "config; go on with the same config.init, or train in another workdir"
      )


def check_resumable(saved: Mapping[str, Any], current: Mapping[str, Any], where: str) -> None:
  """Checks that a run can go on from a checkpoint, and prints the changes of config that it accepts.

  Args:
    saved: the checkpoint's metadata.
    current: run_metadata of the run, with its training_data.
    where: names the checkpoint in messages.

  Raises:
    CheckpointError: the checkpoint has another start, another schema, other training data or another architecture.
  """
  check_same_start(saved["config"], current["config"], where)
  theirs, ours = saved.get("training_data"), current["training_data"]
  _check_mix(theirs, ours, current["config"], where)
  schema_difference = Schema.from_dict(current["schema"]).difference(Schema.from_dict(saved["schema"]))
  if schema_difference:
    raise CheckpointError(f"{where} is of another schema: {schema_difference}")
  saved_config = config_files.to_dict(completed(saved["config"], where))
  accepted = []
  changed = list(config_files.difference(current["config"], saved_config))
  # Before the statistics, which some of these keys change.
  for key, ours_value, theirs_value in changed:
    other = compatibility.changes_function(key) and not key.startswith("masking.")
    if key in compatibility.ON_OR_OFF:
      other = bool(ours_value) != bool(theirs_value)
    if key in compatibility.OF_THE_SKIP:
      other = all(config["model"]["interpolation_skip"] for config in (current["config"], saved_config))
    if other:
      raise CheckpointError(
        f"{where} is of another architecture: {key} is {theirs_value} there, {ours_value} in this config; go on with "
        "the value there, or train in another workdir"
      )
    accepted.append(f"{where}: {key} is now {ours_value} (was {theirs_value})")
  if saved["statistics"] != current["statistics"]:
    raise CheckpointError(f"{where} was trained on other data: its normalisation statistics differ")
  if theirs and theirs["pretrain"] != ours["pretrain"]:
    raise CheckpointError(
      f"{where} was trained on other data: the training days of dataset {ours['name']!r} are not those that it was "
      f"trained on (digest {theirs['pretrain']}, now {ours['pretrain']}), although their statistics are the same; "
      "restore the dataset from a copy, or train in another workdir"
    )
  same_limits = not any(key.startswith("data.max_") for key, *_ in changed)
  if same_limits and (note := seen_people.chosen_anew(theirs, ours)):
    accepted.append(f"{where}: {note}")
  for line in accepted:
    print(line)


def _check_mix(
  theirs: Mapping[str, Any] | None, ours: Mapping[str, Any] | None, config: Mapping[str, Any], where: str
) -> None:
  """Refuses to go on with another mix of datasets; with other weights, unless config.data.on_changed_mix allows it."""
  if theirs is None or ours is None:
    return
  before, now = _mix_weights(theirs), _mix_weights(ours)
  if before == now:
    return
  change = f"{where} was trained on {_mix_text(theirs)}, and this config's data are {_mix_text(ours)}"
  if before.keys() != now.keys():
    raise CheckpointError(f"{change}; train in another workdir")
  if config["data"]["on_changed_mix"] == "stop":
    raise CheckpointError(f"{change}; to go on with these weights: --config.data.on_changed_mix=continue")


def _mix_weights(data: Mapping[str, Any]) -> dict[str, float]:
  """{name: share of what is drawn} of the members of a mix; empty for a dataset that is none."""
  total = sum(member["weight"] for member in data.get("mix", ()))
  return {member["name"]: round(member["weight"] / total, 9) for member in data.get("mix", ())}


def _mix_text(data: Mapping[str, Any]) -> str:
  members = [f"{member['name']} {member['weight']:g}" for member in data.get("mix", ())]
  return f"the mix {', '.join(members)}" if members else f"dataset {data['name']!r}"


def told_about_data(saved: Mapping[str, Any] | None, dataset: Dataset) -> str | None:
  """Says that a dataset is not the one that a model was trained on; None if it is, or if nobody knows.

  Args:
    saved: training_data of the model's checkpoint; None for one of format 1.
    dataset: what the model is used on.
  """
  if saved is None or seen_people.is_training_data(saved, dataset):
    return None
  if saved["name"] == dataset.name:
    return f"the content of dataset {dataset.name!r} has changed since the model was trained on it"
  return f"the model was trained on dataset {saved['name']!r}, this is {dataset.name!r}"
