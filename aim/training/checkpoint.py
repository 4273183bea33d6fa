"""Checkpoints: parameters, EMA and optimiser as separate Orbax items, with schema, statistics and config beside them.

A checkpoint needs nothing else to be used: `read` rebuilds the model's function from one folder. Whatever is read is
compared with the checksums that were stored with it. Only Orbax's public interface is used; the names of its own files
appear nowhere but in tests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from logging import CRITICAL, LogRecord, getLogger
from typing import Any

import absl.logging
import jax
import ml_collections
import orbax.checkpoint.experimental.v1 as ocp
from etils import epath
from jax.experimental import multihost_utils
from jaxtyping import Array

from aim.model import from_config, lsm2
from aim.model.patches import Scale
from aim.runtime import processes, working_copy
from aim.training import checkpoint_metadata
from aim.training.checkpoint_metadata import CheckpointError, DamagedError
from aim.training.checksums import checksums, first_difference
from data_pipelines.errors import UserError, first_line
from data_pipelines.remote import copies
from data_pipelines.remote.objects import RemoteError, RemoteFolder, is_remote
from data_pipelines.schema import Schema

# Items that every checkpoint has; "ema" is there only if config.optimizer.ema is above 0.
REQUIRED_ITEMS = ("params", "training")


class UnfinishedError(DamagedError):
  """The checkpoint's save never came to its end."""


def hide_orbax_noise() -> None:
  """Silences what Orbax logs and warns about errors that it also raises; called by the program's entry point.

  A failed background save is logged with its stack, and so are callbacks that come too late for it; the next call then
  raises the error, which this program reports in one line.
  """
  _hide_what_failed_loads_leave()
  absl.logging.get_absl_logger().addFilter(_is_of_others)
  getLogger("concurrent.futures").setLevel(CRITICAL)


@functools.cache
def _hide_what_failed_loads_leave() -> None:
  """Silences what comes after a load that failed, whenever it comes; nothing else, because it stays for the process.

  Orbax ends its event loop at the first error. Reads in progress then find the loop closed or are dropped, errors of
  further arrays are logged when their tasks are collected, and coroutines were never awaited.
  """
  others = sys.unraisablehook
  sys.unraisablehook = lambda late: None if _is_of_dropped_read(late.exc_value) else others(late)
  getLogger("asyncio").addFilter(_is_no_lost_read)
  warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _is_of_dropped_read(error: BaseException | None) -> bool:
  """True if this comes of the end of an event loop: a coroutine that is dropped is left with GeneratorExit.

  Orbax wraps whatever ends a read in an error about the array, also this.
  """
  if str(error) == "Event loop is closed":
    return True
  while error is not None and not isinstance(error, GeneratorExit):
    error = error.__cause__
  return error is not None


def _is_no_lost_read(record: LogRecord) -> bool:
  error = record.exc_info[1] if record.exc_info else None
  return not ("never retrieved" in record.getMessage() and "tensorstore_spec" in str(error))


def _is_of_others(record: LogRecord) -> bool:
  return f"{os.sep}orbax{os.sep}" not in record.pathname


@contextlib.contextmanager
def _without_orbax_logs() -> Iterator[None]:
  """Leaves out what Orbax logs inside, where all that it finds becomes an error of this program; also in a notebook."""
  _hide_what_failed_loads_leave()
  logger = absl.logging.get_absl_logger()
  if _is_of_others in logger.filters:
    yield
    return
  logger.addFilter(_is_of_others)
  try:
    yield
  finally:
    logger.removeFilter(_is_of_others)


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
    self._save_in_progress: ocp.AsyncResponse[bool] | None = None
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
      metadata: what stands beside the arrays, as JSON (aim/training/checkpoint_metadata.py).
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
    items = _items(state)
    stored = checkpoint_metadata.sealed(
      {"step": step, **metadata}, {name: checksums(item) for name, item in items.items()}
    )
    with self._save_errors():
      self._end_save()
      self._save_in_progress = self.checkpointer.save_checkpointables_async(
        step, items, force=force, custom_metadata=stored
      )

  def _end_save(self) -> None:
    """Waits for the save in progress. Orbax would too, but only whoever asks for its result ends its thread."""
    if self._save_in_progress is not None:
      response, self._save_in_progress = self._save_in_progress, None
      response.result()

  @contextlib.contextmanager
  def _save_errors(self) -> Iterator[None]:
    """Turns the failure of a save, or of the previous one in the background, into a CheckpointError."""
    try:
      yield
    except Exception as error:
      cause = _cause_of_damage(error)
      if isinstance(cause, CheckpointError):  # said before: closing fails again with what a save failed with
        raise cause from None
      reason = first_line(cause, 500)
      steps = complete_steps(self.workdir)
      newest = f"the newest complete one is of step {steps[-1]}" if steps else "there is no complete one"
      raise CheckpointError(f"{self.folder}: a checkpoint could not be saved: {reason}; {newest}") from None

  def restore(self, state: dict[str, Any]) -> dict[str, Any]:
    """Reads the newest checkpoint into the shapes and shardings of the abstract `state`.

    Raises:
      DamagedError: its arrays cannot be read, or are not what was saved or of its step; on all processes, if one of
        them finds it.
    """
    damage, items = None, {}
    try:
      items = self.checkpointer.load_checkpointables(None, _items(state))
    except Exception as error:
      damage = str(_unreadable_arrays(error))
    # Only processes that know of each other's failure can set the same checkpoint aside.
    for everywhere in processes.gather(damage):
      if everywhere is not None:
        raise DamagedError(everywhere)
    _verify(items, self.metadata())
    _check_step(
      int(items["training"]["step"]), self.folder / str(self.latest)
    )  # format 2 began without metadata's step
    return {"params": items["params"], "ema": items.get("ema", {}), **items["training"]}

  def metadata(self) -> dict[str, Any]:
    """Reads the metadata of the newest checkpoint (aim/training/checkpoint_metadata.py).

    Raises:
      DamagedError: the checkpoint is not complete, or this is not what was saved.
      CheckpointError: a later version of this program wrote it.
    """
    return _read_metadata(self.folder / str(self.latest))

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
        if pathlib.Path(aside).is_symlink():
          aside.unlink()
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
      try:
        self._end_save()
      finally:
        self.checkpointer.close()


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
    training_data: names the content of the training data (checkpoint_metadata.training_data); None in format 1.
    metadata: what was stored beside the arrays, without checksums; an export keeps it.
  """

  config: ml_collections.ConfigDict
  schema: Schema
  scale: Scale
  architecture: lsm2.Architecture
  params: dict[str, Array]
  step: int
  training_data: Mapping[str, Any] | None = None
  metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(path: str | pathlib.Path) -> Restored:
  """Reads the newest checkpoint of a workdir that can be read, or the checkpoint whose own folder is given.

  Newer ones that are damaged are left out, which is printed. A remote checkpoint is copied to this machine first.

  Raises:
    CheckpointError: there is no such folder, no checkpoint that can be read, or the one given is damaged, of a later
      version, or cannot be used by this one (one line).
    RemoteError: an object store cannot be reached.
  """
  remote = working_copy.remote_checkpoints(path) or (str(path) if is_remote(path) else None)
  if remote:
    return _read_remote(remote)
  folder = epath.Path(pathlib.Path(path).absolute())
  root = folder / working_copy.CHECKPOINTS if (folder / working_copy.CHECKPOINTS).is_dir() else folder
  if not root.is_dir():
    raise CheckpointError(f"{folder}: no such folder; expected a workdir or a checkpoint")
  if root.name.isdigit():
    return _read_named(root)
  return _read_newest(str(folder), ((str(step_path), step_path) for step_path in reversed(_step_folders(root))))


def stored_schema(path: str | pathlib.Path) -> Schema | None:
  """The schema of the checkpoint that `read` would take from a local workdir or checkpoint; no array is read.

  None where only `read` can tell: nothing there is whole, or it is not here.
  """
  folder = epath.Path(pathlib.Path(path).absolute())
  root = folder / working_copy.CHECKPOINTS if (folder / working_copy.CHECKPOINTS).is_dir() else folder
  for step_path in [root] if root.name.isdigit() else reversed(_step_folders(root)):
    with contextlib.suppress(UserError, KeyError):
      return Schema.from_dict(_read_metadata(step_path)["schema"])
  return None


def _read_remote(url: str) -> Restored:
  """Reads the newest checkpoint that can be read of a remote workdir, or the one whose own folder is given."""
  url = url.rstrip("/")
  children = RemoteFolder(url).children()
  if working_copy.CHECKPOINTS in children:
    return _read_remote(f"{url}/{working_copy.CHECKPOINTS}")
  if url.rsplit("/", 1)[-1].isdigit():
    return _read_named(epath.Path(copies.local(url)))
  for path in copies.copy_path(url).glob("*"):
    if path.name not in children:  # a step that the run has removed
      shutil.rmtree(path, ignore_errors=True)
  steps = sorted((name for name in children if name.isdigit()), key=int, reverse=True)
  return _read_newest(url, ((f"{url}/{step}", epath.Path(copies.local(f"{url}/{step}"))) for step in steps))


def _read_named(step_path: epath.Path) -> Restored:
  try:
    return _read_step(step_path)
  except DamagedError as error:
    raise CheckpointError(f"{step_path}: {error}") from None


def _read_newest(where: str, newest_first: Iterable[tuple[str, epath.Path]]) -> Restored:
  """Reads the first of some checkpoints, each with its name for messages, that is not damaged."""
  damaged = 0
  for name, step_path in newest_first:
    try:
      restored = _read_step(step_path)
    except DamagedError as error:
      damaged += 1
      print(f"{name}: {error}; left out")
      continue
    if damaged:
      print(f"{where}: the checkpoint of step {restored.step} is used, the newest that can be read")
    return restored
  if damaged:
    raise CheckpointError(f"{where}: none of its {damaged} checkpoints can be read; restore one or train again")
  raise CheckpointError(f"{where}: holds no complete checkpoint; train first with --mode=pretrain")


def _read_step(step_path: epath.Path) -> Restored:
  """Reads one checkpoint.

  Raises:
    DamagedError: it is incomplete or damaged, or its folder is of another step.
    CheckpointError: a later version wrote it, or this one cannot use it.
  """
  metadata = _read_metadata(step_path)
  restored = without_params(metadata, metadata.get("step", int(step_path.name)), str(step_path))
  item = "ema" if "ema" in metadata["items"] else "params"
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  shapes = lsm2.abstract(restored.architecture)[1]
  targets = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device) for name, leaf in shapes.items()}
  try:
    with _without_orbax_logs():
      items = ocp.load_checkpointables(step_path, {item: targets})
  except Exception as error:
    raise _unreadable_arrays(error) from None
  _verify(items, metadata)
  if "checksums" not in metadata:
    print(f"{step_path}: saved by a version without checksums, so damage to it may go unnoticed")
  return dataclasses.replace(restored, params=items[item])


def without_params(metadata: Mapping[str, Any], step: int, where: str, tell_missing: bool = True) -> Restored:
  """The settings of a model's function from what is stored beside its arrays.

  Args:
    metadata: of a checkpoint or an exported folder (aim/training/checkpoint_metadata.py).
    step: training steps completed.
    where: names the checkpoint or folder in messages.
    tell_missing: whether config keys that another version did not have yet are reported.

  Raises:
    CheckpointError: this version cannot use it.
  """
  try:
    schema = Schema.from_dict(metadata["schema"])
    config = checkpoint_metadata.completed(metadata["config"], where, tell_missing)
    scale = Scale.from_statistics(schema, metadata["statistics"], config.data.zero_is_missing, config.data.clip)
    architecture = from_config.architecture(config, schema)
  except CheckpointError:
    raise
  except UserError as error:
    raise CheckpointError(f"{where}: {error}") from None
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise CheckpointError(f"{where}: not a checkpoint of this program: {first_line(error, 500)}") from None
  stored = {key: value for key, value in metadata.items() if key not in ("checksums", "items")}
  return Restored(config, schema, scale, architecture, {}, step, metadata.get("training_data"), stored)


def newest_metadata(workdir: str | pathlib.Path) -> dict[str, Any] | None:
  """Metadata of a workdir's newest checkpoint that is complete; None if there is none."""
  for path in reversed(_step_folders(checkpoint_folder(workdir))):
    with contextlib.suppress(DamagedError):
      return _read_metadata(path)
  return None


def _verify(items: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
  """Compares the arrays of some items with the checksums that were saved with them, if there are any.

  Raises:
    DamagedError: an array is not what was saved.
  """
  saved = metadata.get("checksums")
  if saved is None:
    return
  for name, item in items.items():
    difference = first_difference(saved[name], checksums(item))
    if difference:
      raise DamagedError(f"is damaged: {name}: {difference}")


def _check_step(step: int, step_path: epath.Path) -> None:
  """Compares the step that was saved with the folder's name.

  Raises:
    DamagedError: somebody has renamed, copied or linked the folder.
  """
  if step != int(step_path.name):
    raise DamagedError(f"is the checkpoint of step {step}, its folder says {step_path.name}")


def complete_steps(workdir: str | pathlib.Path) -> list[int]:
  """Steps of a workdir's complete checkpoints, in ascending order."""
  steps = []
  for path in _step_folders(checkpoint_folder(workdir)):
    with contextlib.suppress(CheckpointError):
      _read_metadata(path)
      steps.append(int(path.name))
  return steps


def _items(state: dict[str, Any]) -> dict[str, Any]:
  """A train state, or its shapes, as the items of a checkpoint: inference reads parameters alone."""
  items = {"params": state["params"], "training": {key: state[key] for key in ("optimizer", "step")}}
  return items | ({"ema": state["ema"]} if state["ema"] else {})


def _step_folders(root: epath.Path) -> list[epath.Path]:
  """Folders of the checkpoints under `root`, complete or not, in ascending order of their steps."""
  folders = [child for child in root.iterdir() if child.name.isdigit()] if root.is_dir() else []
  return sorted(folders, key=lambda child: int(child.name))


def _unfinished(root: epath.Path) -> list[epath.Path]:
  """Folders of saves that are in progress or were interrupted: STEP.SUFFIX, which Orbax renames to STEP at the end."""
  folders = root.glob("*.*") if root.is_dir() else ()
  return sorted(child for child in folders if child.stem.isdigit() and child.suffix != ".damaged")


def _was_interrupted(path: epath.Path) -> bool:
  """True if a folder on gs:// that Orbax does not take for a checkpoint is what remains of an interrupted save.

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


def _read_metadata(step_path: epath.Path) -> dict[str, Any]:
  """Reads the metadata of a checkpoint, and adds the names of its "items".

  Raises:
    DamagedError: the save was not completed, something of it is lost or changed, its folder is of another step, or
      another program wrote it.
    CheckpointError: a later version of this program wrote it.
  """
  try:
    with _without_orbax_logs():
      saved = ocp.checkpointables_metadata(step_path)
    items = {name for name, item in saved.metadata.items() if item is not None}
    content = dict(saved.custom_metadata or {})
  except Exception as error:
    raise DamagedError(f"is not complete: {first_line(_cause_of_damage(error), 500)}") from None
  if saved.commit_timestamp_nsecs is None:  # the last thing that a save writes
    raise UnfinishedError("is not complete: its metadata cannot be read, or record no end of its save")
  metadata = checkpoint_metadata.opened(content, str(step_path))
  if "step" in metadata:
    _check_step(metadata["step"], step_path)
  expected = tuple(metadata.get("checksums", REQUIRED_ITEMS))
  for item in expected:
    if item not in items:
      raise DamagedError(f"is not complete: it has no readable item {item!r}, expected {' and '.join(expected)}")
  return metadata | {"items": sorted(items)}


def _cause_of_damage(error: BaseException) -> BaseException:
  """The first error of a chain; one that says nothing about files (out of memory, a lost process) is raised again."""
  # Orbax wraps every error of a handler in one that does not name the cause. Damaged files raise almost anything.
  while not isinstance(error, MemoryError | jax.errors.JaxRuntimeError):
    if not (error.__cause__ or error.__context__):
      return error
    error = error.__cause__ or error.__context__  # type: ignore[assignment]
  raise error


def _unreadable_arrays(error: BaseException) -> DamagedError:
  """The DamagedError for an error of loading; raises it again unless it may be about files."""
  return DamagedError(f"its arrays cannot be read: {first_line(_cause_of_damage(error), 500)}")
