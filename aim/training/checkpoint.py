"""Checkpoints: parameters as an item of their own; schema, statistics and config inside, so one is all one needs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import pathlib
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from jax.experimental import multihost_utils
from jaxtyping import Array

import aim.model.defaults
import aim.training.defaults
from aim.common import config_files
from aim.model import from_config, lsm2
from aim.model.patches import Scale
from data_pipelines.dataset import Dataset
from data_pipelines.errors import UserError
from data_pipelines.schema import Schema


def _untold(record: logging.LogRecord) -> bool:
  """Orbax logs the stack of a save that failed in the background, and those of callbacks that come too late for it; its
  error is raised at the next call: once is enough."""
  error = record.exc_info and record.exc_info[1]
  return not error or not ("orbax" in record.pathname or str(error) == "Event loop is closed")


for _logger in ("absl", "concurrent.futures"):
  logging.getLogger(_logger).addFilter(_untold)

policies = ocp.training.save_decision_policies
preservation = ocp.training.preservation_policies


# How a step is computed may change, by a move to another machine say; initial values are past.
CHANGEABLE = ("model.dtype", "model.remat", "model.attention", "model.qk_init")
# Of the config, beside model, what a model's function or the shapes of its parameters depend on.
FUNCTION = ("method", "data.impute", "views.prototypes")


class CheckpointError(UserError):
  """No usable checkpoint."""


class DamagedError(CheckpointError):
  """A checkpoint that was not written to its end, or lost some of its files."""


def folder(workdir: str | pathlib.Path) -> pathlib.Path:
  return pathlib.Path(workdir).absolute() / "checkpoints"


def bytes_being_saved(workdir: str | pathlib.Path) -> int:
  """Bytes of the saves under way: what grows while one goes on, however long it takes."""
  found = 0
  for path in folder(workdir).glob("*orbax-checkpoint-tmp*/**/*"):
    with contextlib.suppress(OSError):  # renamed or removed meanwhile
      found += path.stat().st_size
  return found


class Checkpoints:
  """The checkpoints of one workdir, saved asynchronously every `every` steps and on demand; the newest `keep` stay."""

  def __init__(self, workdir: str | pathlib.Path, every: int, keep: int):
    self.folder = folder(workdir)
    self.damaged: list[pathlib.Path] = []  # what was renamed, so that an older one is the newest
    self._set_aside_incomplete()
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
    """Step of the newest checkpoint; None if there is none."""
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
    with self._saving():
      self.checkpointer.save_checkpointables_async(step, items, force=force, custom_metadata=metadata)

  @contextlib.contextmanager
  def _saving(self) -> Iterator[None]:
    """CheckpointError for a save that failed, this one or the one before it, which went on in the background."""
    try:
      yield
    except Exception as error:
      reason = _line(_cause(error))
      left = complete_steps(self.folder.parent)
      newest = f"the newest complete one is of step {left[-1]}" if left else "there is no complete one"
      raise CheckpointError(f"{self.folder}: a checkpoint could not be saved: {reason}; {newest}") from None

  def restore(self, state: dict[str, Any]) -> dict[str, Any]:
    """The newest checkpoint, in the shapes and shardings of the abstract `state`; DamagedError if it cannot be read."""
    wanted = {"params": state["params"], "training": {key: state[key] for key in ("optimizer", "step")}}
    if state["ema"]:
      wanted["ema"] = state["ema"]
    try:
      items = self.checkpointer.load_checkpointables(None, wanted)
    except Exception as error:
      raise _damaged(error) from None
    return {"params": items["params"], "ema": items.get("ema", {}), **items["training"]}

  def metadata(self) -> dict[str, Any]:
    """What save() was given beside the newest checkpoint's state."""
    return _metadata(self.folder / str(self.latest))

  def set_aside(self, step: int, reason: Exception) -> None:
    """Renames a damaged checkpoint, and says so: the one before it becomes the newest."""
    self._rename([(self.folder / str(step), reason)])
    self.checkpointer.reload()

  def _set_aside_incomplete(self) -> None:
    for left in sorted(self.folder.glob("*orbax-checkpoint-tmp*")):
      print(f"{left}: its save was interrupted; removed")  # by Orbax
    incomplete: list[tuple[pathlib.Path, Exception]] = []
    for step in _steps(self.folder):
      try:
        _metadata(step)
      except DamagedError as error:
        incomplete.append((step, error))
    self._rename(incomplete)

  def _rename(self, damaged: list[tuple[pathlib.Path, Exception]]) -> None:
    multihost_utils.sync_global_devices("damaged checkpoints are known")
    for path, reason in damaged:
      aside = path.with_name(f"{path.name}.damaged")
      if jax.process_index() == 0:
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
      print(f"{path}: {reason}; renamed to {aside.name}")
      self.damaged.append(aside)
    multihost_utils.sync_global_devices("damaged checkpoints are renamed")

  def close(self) -> None:
    """Waits for saves under way."""
    with self._saving():
      self.checkpointer.close()


def metadata(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, Any]:
  """What a checkpoint carries beside arrays, as JSON: all that its function needs."""
  keys = ("mean", "std", "min", "max")
  statistics = {key: np.asarray(getattr(dataset.statistics, key), np.float64).tolist() for key in keys}
  return {"config": config_files.to_dict(config), "schema": dataset.schema.to_dict(), "statistics": statistics}


def check_resumable(saved: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
  """CheckpointError if a run with `wanted` metadata cannot go on from `saved`; prints the changes it can take."""
  unequal = Schema.from_dict(wanted["schema"]).difference(Schema.from_dict(saved["schema"]))
  if unequal:
    raise CheckpointError(f"{where} is of another schema: {unequal}")
  if saved["statistics"] != wanted["statistics"]:
    raise CheckpointError(f"{where} was trained on other data: its normalisation statistics differ")
  theirs_now = config_files.to_dict(_of_this_version(saved["config"], where))
  for key, ours, theirs in config_files.difference(wanted["config"], theirs_now):
    what = (key.startswith("model.") and key not in CHANGEABLE) or key in FUNCTION or key.startswith("views.projection")
    if what or (key == "optimizer.ema" and bool(ours) != bool(theirs)):
      raise CheckpointError(f"{where} is of another architecture: {key} is {theirs} there, {ours} in this config")
    print(f"{where}: {key} is now {ours} (was {theirs})")


@dataclasses.dataclass(frozen=True)
class Restored:
  """A checkpoint read for use: the function's settings and its parameters (the EMA's, where one was kept)."""

  config: ml_collections.ConfigDict
  schema: Schema
  scale: Scale
  architecture: lsm2.Architecture
  params: dict[str, Array]
  step: int


def read(path: str | pathlib.Path) -> Restored:
  """Reads the newest complete checkpoint of a workdir, or one checkpoint's own folder. CheckpointError if none."""
  step_path = _newest(pathlib.Path(path).absolute())
  try:
    extra = _metadata(step_path)
    schema = Schema.from_dict(extra["schema"])
    config = _of_this_version(extra["config"], str(step_path))
    scale = Scale.from_statistics(schema, extra["statistics"])
  except DamagedError as error:
    raise CheckpointError(f"{step_path}: {error}") from None
  except (TypeError, ValueError) as error:
    raise CheckpointError(f"{step_path}: not a checkpoint of this program: {_line(error)}") from None
  try:
    architecture = from_config.architecture(config, schema)
  except AttributeError as error:
    raise CheckpointError(f"{step_path}: of an older version of this program: its config has {_line(error)}") from None
  item = "ema" if (step_path / "ema").is_dir() else "params"
  one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  shapes = lsm2.abstract(architecture)[1]
  wanted = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one) for name, leaf in shapes.items()}
  try:
    params = ocp.load_checkpointables(step_path, {item: wanted})[item]
  except Exception as error:
    raise CheckpointError(f"{step_path}: {_damaged(error)}") from None
  return Restored(config, schema, scale, architecture, params, int(step_path.name))


def _of_this_version(config: dict[str, Any], where: str) -> ml_collections.ConfigDict:
  """A saved config with the defaults of keys that the version that wrote it did not have."""
  rooms = (aim.model.defaults.defaults(), aim.training.defaults.defaults())
  return config_files.with_defaults(config, rooms, where)


def _newest(path: pathlib.Path) -> pathlib.Path:
  root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
  if root.name.isdigit() and root.is_dir():
    return root
  if not root.is_dir():
    raise CheckpointError(f"{path}: no such folder; expected a workdir or a checkpoint")
  for step in reversed(_steps(root)):
    try:
      _metadata(step)
      return step
    except DamagedError as error:
      print(f"{step}: {error}; left out")
  raise CheckpointError(f"{path}: holds no complete checkpoint; train first with --mode=pretrain")


def _steps(root: pathlib.Path) -> list[pathlib.Path]:
  """Folders of the checkpoints under `root`, complete or not, in order of their steps."""
  found = [child for child in root.iterdir() if child.name.isdigit()] if root.is_dir() else []
  return sorted(found, key=lambda child: int(child.name))


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


def complete_steps(workdir: str | pathlib.Path) -> list[int]:
  """Steps of the checkpoints that were written to their end, the newest last."""
  found = []
  for path in _steps(folder(workdir)):
    with contextlib.suppress(DamagedError):
      _metadata(path)
      found.append(int(path.name))
  return found


def _cause(error: BaseException) -> Exception:
  """What went wrong with files; anything else, no memory or a lost process say, is raised."""
  # Orbax wraps every error of a handler in one that says nothing of the cause.
  while error.__cause__ or error.__context__:
    error = error.__cause__ or error.__context__  # type: ignore[assignment]
  if not isinstance(error, KeyError | OSError | ValueError):
    raise error
  return error


def _damaged(error: BaseException) -> DamagedError:
  """What loading raised, as a DamagedError if files are cut short or gone."""
  cause = _cause(error)
  # Nor is the loading that Orbax gave up the user's concern.
  warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
  return DamagedError(f"its arrays cannot be read: {_line(cause)}")


def _line(error: Exception) -> str:
  return (str(error) or type(error).__name__).strip().splitlines()[0][:500]
