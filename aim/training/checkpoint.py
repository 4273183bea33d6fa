"""Checkpoints: parameters, EMA and optimiser as separate Orbax items, with schema, statistics and config beside them.

A checkpoint needs nothing else to be used: `read` rebuilds the model's function from one folder. Only Orbax's public
interface is used; the names of its own files appear nowhere but in tests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from logging import CRITICAL, getLogger
from typing import Any

import absl.logging
import jax
import ml_collections
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from etils import epath
from jax.experimental import multihost_utils
from jaxtyping import Array

import aim.model.defaults
import aim.training.defaults
from aim.common import config_files
from aim.model import from_config, lsm2
from aim.model.patches import Scale
from aim.runtime import working_copy
from data_pipelines.dataset import Dataset
from data_pipelines.errors import UserError
from data_pipelines.remote import copies
from data_pipelines.remote.objects import RemoteError, RemoteFolder, is_remote
from data_pipelines.schema import Schema

# Config keys under `model` that may change on resume: how a step is computed (after a move to another machine, for
# example), and the initial values, which no longer matter.
RESUMABLE_MODEL_KEYS = ("model.dtype", "model.remat", "model.scan_layers", "model.attention", "model.qk_init")
# Config keys outside `model` that the model's function or the shapes of its parameters depend on.
OTHER_MODEL_KEYS = ("method", "data.impute", "views.prototypes")
# Items that every checkpoint has; "ema" is there only if config.optimizer.ema is above 0.
REQUIRED_ITEMS = ("params", "training")


class CheckpointError(UserError):
  """There is no usable checkpoint."""


class DamagedError(CheckpointError):
  """The checkpoint's save was never completed, or some of its files are lost."""


class UnfinishedError(DamagedError):
  """The checkpoint's save never came to its end."""


def hide_orbax_noise() -> None:
  """Silences what Orbax logs and warns about errors that it also raises; called by the program's entry point.

  A failed background save is logged with its stack, and so are callbacks that come too late for it; the next call then
  raises the error, which this program reports in one line. A load that fails leaves a coroutine that nobody awaits.
  """
  absl.logging.get_absl_logger().addFilter(lambda record: f"{os.sep}orbax{os.sep}" not in record.pathname)
  getLogger("concurrent.futures").setLevel(CRITICAL)
  warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def checkpoint_folder(workdir: str | pathlib.Path) -> epath.Path:
  """The folder of a workdir that holds its checkpoints, one subfolder per step; it may be on gs://."""
  remote = working_copy.remote_checkpoints(workdir)
  return epath.Path(remote or pathlib.Path(workdir).absolute() / working_copy.CHECKPOINTS)


def bytes_being_saved(workdir: str | pathlib.Path) -> int:
  """Bytes written so far by saves in progress: it grows while a save advances, however long the save takes."""
  size = 0
  root = checkpoint_folder(workdir)
  if is_remote(root):  # nothing is renamed there, so a save in progress cannot be told from a finished one
    with contextlib.suppress(RemoteError):  # the store may be out of reach for a while
      size = sum(file.size for file in RemoteFolder(root).files().values())
    return size
  for folder in _unfinished(root):
    for path in pathlib.Path(folder).rglob("*"):
      with contextlib.suppress(OSError):  # renamed or removed in the meantime
        size += path.stat().st_size
  return size


class Checkpoints:
  """The checkpoints of one workdir, saved asynchronously every `every` steps and on demand; the newest `keep` remain.

  Attributes:
    folder: where they are.
    damaged: folders of damaged checkpoints that were renamed, so that an older checkpoint became the newest.
  """

  def __init__(self, workdir: str | pathlib.Path, every: int, keep: int):
    self.workdir, self.folder = workdir, checkpoint_folder(workdir)
    self.damaged: list[epath.Path] = []
    self._set_aside_incomplete()
    for path in _unfinished(self.folder):
      print(f"{path}: its save was interrupted; removed")  # by Orbax, in the background
    policies = ocp.training.save_decision_policies
    self.checkpointer = ocp.training.Checkpointer(
      self.folder,
      save_decision_policy=policies.AnySavePolicy(
        [policies.FixedIntervalPolicy(every), policies.PreemptionCheckpointingPolicy()]
      ),
      preservation_policy=ocp.training.preservation_policies.LatestN(keep),
      cleanup_tmp_directories=True,
    )

  @property
  def latest(self) -> int | None:
    """Step of the newest checkpoint; None if there is none."""
    newest = self.checkpointer.latest
    return None if newest is None else newest.step

  def save(
    self,
    step: int,
    state: dict[str, Any],
    metadata: dict[str, Any],
    force: bool = False,
    first: Callable[[], object] = lambda: None,
  ) -> None:
    """Starts a save if the policy (or `force`) asks for one; `state` may be donated afterwards.

    Args:
      step: steps completed.
      state: the train state (aim/training/train_state.py).
      metadata: from run_metadata.
      force: save whatever the policy says, unless this step is saved already.
      first: called before a save starts, so that the log has the line of a step whose checkpoint there is.

    Raises:
      CheckpointError: this save, or the previous one in the background, failed.
    """
    if force and self.latest == step:
      return
    if not force and not self.checkpointer.should_save(step):
      return
    first()
    working_copy.upload_now(self.workdir)  # a remote checkpoint must not be ahead of its workdir
    with self._save_errors():
      self.checkpointer.save_checkpointables_async(step, _items(state), force=force, custom_metadata=metadata)

  @contextlib.contextmanager
  def _save_errors(self) -> Iterator[None]:
    """Turns the failure of a save, or of the previous one in the background, into a CheckpointError."""
    try:
      yield
    except Exception as error:
      reason = _first_line(_root_cause(error))
      steps = complete_steps(self.folder.parent)
      newest = f"the newest complete one is of step {steps[-1]}" if steps else "there is no complete one"
      raise CheckpointError(f"{self.folder}: a checkpoint could not be saved: {reason}; {newest}") from None

  def restore(self, state: dict[str, Any]) -> dict[str, Any]:
    """Reads the newest checkpoint into the shapes and shardings of the abstract `state`.

    Raises:
      DamagedError: its arrays cannot be read.
    """
    try:
      items = self.checkpointer.load_checkpointables(None, _items(state))
    except Exception as error:
      raise _unreadable_arrays(error) from None
    return {"params": items["params"], "ema": items.get("ema", {}), **items["training"]}

  def metadata(self) -> dict[str, Any]:
    """The metadata that save() was given with the newest checkpoint.

    Raises:
      DamagedError: the checkpoint is not complete.
    """
    return _read_metadata(self.folder / str(self.latest))[0]

  def set_aside(self, step: int, reason: Exception) -> None:
    """Renames a damaged checkpoint and prints why; the one before it becomes the newest."""
    self._rename([(self.folder / str(step), reason)])
    self.checkpointer.reload()

  def _set_aside_incomplete(self) -> None:
    """Renames the incomplete checkpoints that are newer than the newest complete one.

    On gs:// nothing is renamed at the end of a save, so an interrupted one has the name of a complete one.
    """
    incomplete: list[tuple[epath.Path, Exception]] = []
    interrupted: list[epath.Path] = []
    for path in reversed(_step_folders(self.folder)):
      try:
        _read_metadata(path)
        break
      except DamagedError as error:
        if is_remote(path) and _was_interrupted(path):
          interrupted.append(path)
        else:
          incomplete.append((path, error))
    self._rename(incomplete, interrupted)

  def _rename(self, damaged: list[tuple[epath.Path, Exception]], interrupted: Sequence[epath.Path] = ()) -> None:
    """Renames damaged checkpoints, and removes what remains of interrupted saves."""
    multihost_utils.sync_global_devices("damaged checkpoints are known")
    for path, reason in damaged:
      aside = path.with_name(f"{path.name}.damaged")
      if jax.process_index() == 0:
        aside.rmtree(missing_ok=True)
        path.rename(aside)
      print(f"{path}: {reason}; renamed to {aside.name}")
      self.damaged.append(aside)
    for path in interrupted:
      if jax.process_index() == 0:
        path.rmtree(missing_ok=True)
      print(f"{path}: its save was interrupted; removed")
    multihost_utils.sync_global_devices("damaged checkpoints are renamed")

  def close(self) -> None:
    """Waits for saves in progress.

    Raises:
      CheckpointError: one of them failed.
    """
    with self._save_errors():
      self.checkpointer.close()


def run_metadata(config: ml_collections.ConfigDict, dataset: Dataset) -> dict[str, Any]:
  """What a checkpoint holds beside its arrays, as JSON: everything else that the model's function needs."""
  keys = ("mean", "std", "min", "max")
  statistics = {key: np.asarray(getattr(dataset.statistics, key), np.float64).tolist() for key in keys}
  return {"config": config_files.to_dict(config), "schema": dataset.schema.to_dict(), "statistics": statistics}


def check_resumable(saved: dict[str, Any], current: dict[str, Any], where: str) -> None:
  """Checks that a run can go on from a checkpoint, and prints the changes of config that it accepts.

  Args:
    saved: the checkpoint's metadata.
    current: run_metadata of the run.
    where: names the checkpoint in messages.

  Raises:
    CheckpointError: the checkpoint has another schema, other training data or another architecture.
  """
  schema_difference = Schema.from_dict(current["schema"]).difference(Schema.from_dict(saved["schema"]))
  if schema_difference:
    raise CheckpointError(f"{where} is of another schema: {schema_difference}")
  if saved["statistics"] != current["statistics"]:
    raise CheckpointError(f"{where} was trained on other data: its normalisation statistics differ")
  saved_config = config_files.to_dict(_with_new_keys(saved["config"], where))
  for key, ours, theirs in config_files.difference(current["config"], saved_config):
    fixed = key in OTHER_MODEL_KEYS or key.startswith("views.projection")
    fixed |= key.startswith("model.") and key not in RESUMABLE_MODEL_KEYS
    if fixed or (key == "optimizer.ema" and bool(ours) != bool(theirs)):
      raise CheckpointError(f"{where} is of another architecture: {key} is {theirs} there, {ours} in this config")
    print(f"{where}: {key} is now {ours} (was {theirs})")


@dataclasses.dataclass(frozen=True)
class Restored:
  """A checkpoint read for use: the settings of the model's function, and its parameters.

  Attributes:
    config: of the run that trained it.
    schema: of the days that it was trained on.
    scale: normalisation by the statistics of its training data.
    architecture: of the model.
    params: {name: array}; the moving average (EMA) if one was kept.
    step: training steps completed.
  """

  config: ml_collections.ConfigDict
  schema: Schema
  scale: Scale
  architecture: lsm2.Architecture
  params: dict[str, Array]
  step: int


def read(path: str | pathlib.Path) -> Restored:
  """Reads the newest complete checkpoint of a workdir, or the checkpoint whose own folder is given.

  A remote checkpoint is copied to this machine first.

  Raises:
    CheckpointError: there is no such folder, no complete checkpoint, or it cannot be read (one line).
    RemoteError: an object store cannot be reached.
  """
  remote = working_copy.remote_checkpoints(path) or (str(path) if is_remote(path) else None)
  if remote:
    return _read_remote(remote)
  step_path = _newest(epath.Path(pathlib.Path(path).absolute()))
  try:
    metadata, items = _read_metadata(step_path)
    schema = Schema.from_dict(metadata["schema"])
    config = _with_new_keys(metadata["config"], str(step_path))
    scale = Scale.from_statistics(schema, metadata["statistics"])
  except DamagedError as error:
    raise CheckpointError(f"{step_path}: {error}") from None
  except (TypeError, ValueError) as error:
    raise CheckpointError(f"{step_path}: not a checkpoint of this program: {_first_line(error)}") from None
  try:
    architecture = from_config.architecture(config, schema)
  except AttributeError as error:
    reason = _first_line(error)
    raise CheckpointError(f"{step_path}: of an older version of this program: its config has {reason}") from None
  item = "ema" if "ema" in items else "params"
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  shapes = lsm2.abstract(architecture)[1]
  targets = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device) for name, leaf in shapes.items()}
  try:
    params = ocp.load_checkpointables(step_path, {item: targets})[item]
  except Exception as error:
    raise CheckpointError(f"{step_path}: {_unreadable_arrays(error)}") from None
  return Restored(config, schema, scale, architecture, params, int(step_path.name))


def _read_remote(url: str) -> Restored:
  """Reads the newest checkpoint that can be read of a remote workdir, or the one whose own folder is given."""
  children = RemoteFolder(url).children()
  if working_copy.CHECKPOINTS in children:
    return _read_remote(f"{url.rstrip('/')}/{working_copy.CHECKPOINTS}")
  if url.rstrip("/").rsplit("/", 1)[-1].isdigit():
    return read(copies.local(url))
  steps = sorted((name for name in children if name.isdigit()), key=int)
  for path in copies.copy_path(url).glob("*"):
    if path.name not in children:  # a step that the run has removed
      shutil.rmtree(path, ignore_errors=True)
  for step in reversed(steps):
    try:
      return read(copies.local(f"{url}/{step}"))
    except CheckpointError as error:
      if step == steps[0]:
        raise
      print(f"{url}/{step}: {error}; left out")
  raise CheckpointError(f"{url}: holds no complete checkpoint; train first with --mode=pretrain")


def _with_new_keys(config: dict[str, Any], where: str) -> ml_collections.ConfigDict:
  """A saved config with the defaults of the keys that the version that wrote it did not have."""
  defaults = (aim.model.defaults.defaults(), aim.training.defaults.defaults())
  return config_files.with_defaults(config, defaults, where)


def complete_steps(workdir: str | pathlib.Path) -> list[int]:
  """Steps of a workdir's complete checkpoints, in ascending order."""
  steps = []
  for path in _step_folders(checkpoint_folder(workdir)):
    with contextlib.suppress(DamagedError):
      _read_metadata(path)
      steps.append(int(path.name))
  return steps


def _items(state: dict[str, Any]) -> dict[str, Any]:
  """A train state, or its shapes, as the items of a checkpoint: inference reads parameters alone."""
  items = {"params": state["params"], "training": {key: state[key] for key in ("optimizer", "step")}}
  return items | ({"ema": state["ema"]} if state["ema"] else {})


def _newest(path: epath.Path) -> epath.Path:
  root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
  if root.name.isdigit() and root.is_dir():
    return root
  if not root.is_dir():
    raise CheckpointError(f"{path}: no such folder; expected a workdir or a checkpoint")
  for step_path in reversed(_step_folders(root)):
    try:
      _read_metadata(step_path)
      return step_path
    except DamagedError as error:
      print(f"{step_path}: {error}; left out")
  raise CheckpointError(f"{path}: holds no complete checkpoint; train first with --mode=pretrain")


def _step_folders(root: epath.Path) -> list[epath.Path]:
  """Folders of the checkpoints under `root`, complete or not, in ascending order of their steps."""
  folders = [child for child in root.iterdir() if child.name.isdigit()] if root.is_dir() else []
  return sorted(folders, key=lambda child: int(child.name))


def _unfinished(root: epath.Path) -> list[epath.Path]:
  """Folders of saves that are in progress or were interrupted: STEP.SUFFIX, which Orbax renames to STEP at the end."""
  folders = root.glob("*.*") if root.is_dir() else ()
  return sorted(child for child in folders if child.stem.isdigit() and child.suffix != ".damaged")


def _was_interrupted(path: epath.Path) -> bool:
  """Whether a folder on gs:// that Orbax does not take for a checkpoint is what remains of an interrupted save.

  Raises:
    CheckpointError: it is whole, but something else than Orbax wrote it there.
  """
  try:
    _read_metadata(epath.Path(copies.local(path)))  # a copy needs no mark of Orbax
  except UnfinishedError:
    return True
  except DamagedError:
    return False
  raise CheckpointError(
    f"{path}: was copied there, and on gs:// Orbax goes on only from what it saved there itself; copy the workdir to a "
    "local folder, go on there, and name it with --workdir"
  )


def _read_metadata(step_path: epath.Path) -> tuple[dict[str, Any], set[str]]:
  """The metadata that save() was given with a checkpoint, and the names of its items.

  Raises:
    DamagedError: the save was not completed, something of it is lost, or another program wrote it.
  """
  try:
    saved = ocp.checkpointables_metadata(step_path)
  except Exception as error:
    raise DamagedError(f"is not complete: {_first_line(_root_cause(error))}") from None
  if saved.commit_timestamp_nsecs is None:  # the last thing that a save writes
    raise UnfinishedError("is not complete: its metadata cannot be read, or record no end of its save")
  items = {name for name, item in saved.metadata.items() if item is not None}
  for item in REQUIRED_ITEMS:
    if item not in items:
      raise DamagedError(f"is not complete: it has no readable item {item!r}, expected {' and '.join(REQUIRED_ITEMS)}")
  metadata = saved.custom_metadata or {}
  for key in ("config", "schema", "statistics"):
    if key not in metadata:
      raise DamagedError(f"is not a checkpoint of this program: its metadata have no {key!r}")
  return metadata, items


def _root_cause(error: BaseException) -> Exception:
  """The first error of a chain if it is about files; any other (out of memory, a lost process) is raised again."""
  # Orbax wraps every error of a handler in one that does not name the cause.
  while error.__cause__ or error.__context__:
    error = error.__cause__ or error.__context__  # type: ignore[assignment]
  if not isinstance(error, KeyError | OSError | ValueError):
    raise error
  return error


def _unreadable_arrays(error: BaseException) -> DamagedError:
  """The DamagedError for an error of loading; raises it again unless it is about files cut short or lost."""
  return DamagedError(f"its arrays cannot be read: {_first_line(_root_cause(error))}")


def _first_line(error: Exception) -> str:
  return (str(error) or type(error).__name__).strip().splitlines()[0][:500]
