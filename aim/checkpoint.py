"""Checkpoints: parameters as an item of their own; schema, statistics and config inside, so one is all one needs."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from jax.experimental import multihost_utils
from jaxtyping import Array

from aim import model, settings
from aim.patches import Scale
from data_pipelines.dataset import Dataset
from data_pipelines.schema import Schema, UserError

policies = ocp.training.save_decision_policies
preservation = ocp.training.preservation_policies


class CheckpointError(UserError):
  """No usable checkpoint."""


class DamagedError(CheckpointError):
  """A checkpoint that was not written to its end, or lost some of its files."""


def folder(workdir: str | pathlib.Path) -> pathlib.Path:
  return pathlib.Path(workdir).absolute() / "checkpoints"


class Checkpoints:
  """The checkpoints of one workdir, saved asynchronously every `every` steps and on demand; the newest `keep` stay."""

  def __init__(self, workdir: str | pathlib.Path, every: int, keep: int):
    self.folder = folder(workdir)
    for left in sorted(self.folder.glob("*orbax-checkpoint-tmp*")):
      print(f"{left}: removed, its save was interrupted")
    self.checkpointer = ocp.training.Checkpointer(
      self.folder,
      save_decision_policy=policies.AnySavePolicy(
        [policies.FixedIntervalPolicy(every), policies.PreemptionCheckpointingPolicy()]
      ),
      preservation_policy=preservation.LatestN(keep),
      cleanup_tmp_directories=True,
    )

  @property
  def latest(self) -> int | None:
    """Step of the newest checkpoint."""
    newest = self.checkpointer.latest
    return None if newest is None else newest.step

  def save(self, step: int, state: dict[str, Any], metadata: dict[str, Any], force: bool = False) -> None:
    """Starts a save if the policy (or force) asks for one; state may be donated afterwards."""
    if force and self.latest == step:
      return
    if not force and not self.checkpointer.should_save(step):
      return
    items = {"params": state["params"], "training": {key: state[key] for key in ("optimizer", "step")}}
    if state["ema"]:
      items["ema"] = state["ema"]
    self.checkpointer.save_checkpointables_async(step, items, force=force, custom_metadata=metadata)

  def restore(self, state: dict[str, Any]) -> dict[str, Any]:
    """The newest checkpoint, in the shapes and shardings of the abstract `state`; DamagedError if it cannot be read."""
    wanted = {"params": state["params"], "training": {key: state[key] for key in ("optimizer", "step")}}
    if state["ema"]:
      wanted["ema"] = state["ema"]
    try:
      items = self.checkpointer.load_checkpointables(None, wanted)
    except (KeyError, OSError, ValueError) as error:  # what Orbax and TensorStore raise for files cut short or missing
      raise DamagedError(f"cannot be read: {_line(error)}") from None
    return {"params": items["params"], "ema": items.get("ema", {}), **items["training"]}

  def metadata(self) -> dict[str, Any]:
    """What save() was given beside the newest checkpoint's state; DamagedError if that is not complete."""
    return _metadata(self.folder / str(self.latest))

  def set_aside(self) -> pathlib.Path:
    """Renames the newest checkpoint, so that the one before it becomes the newest; returns where it is now."""
    path = self.folder / str(self.latest)
    aside = path.with_name(f"{path.name}.damaged")
    if jax.process_index() == 0:
      shutil.rmtree(aside, ignore_errors=True)
      path.rename(aside)
    multihost_utils.sync_global_devices(str(aside))
    self.checkpointer.reload()
    return aside

  def close(self) -> None:
    """Waits for saves under way."""
    self.checkpointer.close()


def metadata(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, Any]:
  """What a checkpoint carries beside arrays, as JSON: all that its function needs."""
  keys = ("mean", "std", "min", "max")
  statistics = {key: np.asarray(getattr(dataset.statistics, key), np.float64).tolist() for key in keys}
  return {"config": settings.to_dict(config), "schema": dataset.schema.to_dict(), "statistics": statistics}


def check_resumable(saved: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
  """CheckpointError if a run with `wanted` metadata cannot go on from `saved`; prints the changes it can take."""
  unequal = Schema.from_dict(wanted["schema"]).difference(Schema.from_dict(saved["schema"]))
  if unequal:
    raise CheckpointError(f"{where} is of another schema: {unequal}")
  if saved["statistics"] != wanted["statistics"]:
    raise CheckpointError(f"{where} was trained on other data: its normalisation statistics differ")
  for key, ours, theirs in settings.difference(wanted["config"], saved["config"]):
    if (key.startswith("model.") and key not in ("model.dtype", "model.remat")) or (
      key == "optimizer.ema" and bool(ours) != bool(theirs)
    ):
      raise CheckpointError(f"{where} is of another architecture: {key} is {theirs} there, {ours} in this config")
    print(f"{where}: {key} is now {ours} (was {theirs})")


@dataclasses.dataclass(frozen=True)
class Restored:
  """A checkpoint read for use: the function's settings and its parameters (the EMA's, where one was kept)."""

  config: ml_collections.ConfigDict
  schema: Schema
  scale: Scale
  architecture: model.Architecture
  params: dict[str, Array]
  step: int


def read(path: str | pathlib.Path) -> Restored:
  """Reads the newest complete checkpoint of a workdir, or one checkpoint's own folder. CheckpointError if none."""
  step_path = _newest(pathlib.Path(path).absolute())
  try:
    extra = _metadata(step_path)
    schema = Schema.from_dict(extra["schema"])
    config = ml_collections.ConfigDict(extra["config"])
    scale = Scale.of(schema, extra["statistics"])
  except (TypeError, ValueError) as error:
    raise CheckpointError(f"{step_path}: not a checkpoint of this program: {_line(error)}") from None
  architecture = settings.architecture(config, schema)
  item = "ema" if (step_path / "ema").is_dir() else "params"
  one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  shapes = model.abstract(architecture)[1]
  wanted = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one) for name, leaf in shapes.items()}
  try:
    params = ocp.load_checkpointables(step_path, {item: wanted})[item]
  except Exception as error:  # Orbax raises many kinds for a truncated or foreign array
    raise CheckpointError(f"{step_path}: cannot read parameters: {_line(error)}") from None
  return Restored(config, schema, scale, architecture, params, int(step_path.name))


def _newest(path: pathlib.Path) -> pathlib.Path:
  root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
  if root.name.isdigit() and root.is_dir():
    return root
  if not root.is_dir():
    raise CheckpointError(f"{path}: no such folder; expected a workdir or a checkpoint")
  steps = [child for child in root.iterdir() if child.name.isdigit() and child.is_dir()]
  for step in sorted(steps, key=lambda child: int(child.name), reverse=True):
    try:
      _metadata(step)
      return step
    except DamagedError as error:
      print(f"{step}: {error}; left out")
  raise CheckpointError(f"{path}: holds no complete checkpoint; train first with --mode=pretrain")


def _metadata(step: pathlib.Path) -> dict[str, Any]:
  """What Checkpoints.save() was given beside the state; DamagedError unless the save came to its end.

  Orbax writes the commit file of every item after its arrays, and that of the whole last.
  """
  try:
    extra = json.loads((step / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
  except (OSError, KeyError, TypeError, ValueError):
    raise DamagedError("is not complete: it has no readable _CHECKPOINT_METADATA") from None
  for item in (".", "params", "training"):
    if not (step / item / "commit_success.txt").is_file():
      raise DamagedError(f"is not complete: {step / item} has no commit_success.txt")
  missing = [key for key in ("config", "schema", "statistics") if key not in (extra or {})]
  if missing:
    raise DamagedError(f"is not a checkpoint of this program: its metadata have no {missing[0]!r}")
  return extra


def _line(error: Exception) -> str:
  return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
