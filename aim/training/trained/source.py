"""Reads a trained model from whatever a path may name."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from aim import weights
from aim.runtime import working_copy
from aim.runtime.working_copy import CHECKPOINTS
from aim.training import checkpoint
from aim.training.checkpoint import Restored
from aim.training.checkpoint_metadata import CheckpointError, digest
from aim.training.checksums import checksums
from aim.training.trained import exported, hub, openmhc
from data_pipelines.errors import SchemaError, UserError
from data_pipelines.remote import copies
from data_pipelines.remote.objects import RemoteFolder, is_remote
from data_pipelines.schema import Schema
from data_pipelines.text_files import json_text, parse_json_object, read_text, replace_text

UNCERTAINTY = "uncertainty.json"  # of a workdir; an export has its content in config.json, under this key:
UNCERTAINTY_KEY = "uncertainty"


def read(path: str | pathlib.Path) -> Restored:
  """Reads a trained model.

  Args:
    path: one of
      - a workdir, whose newest checkpoint that can be read is taken; local, or in a bucket, such as gs://bucket/run;
      - the folder of one checkpoint, or a folder that --mode=export wrote; the same;
      - a release folder of OpenMHC's daily LSM-2;
      - hf://owner/name or hf://owner/name@revision, an exported folder or such a release on a hub;
      - the name of shipped weights (aim.weights.names()), unless a local folder has this name.

  Raises:
    CheckpointError: there is none, or it is damaged, of a later version, or cannot be used by this one (one line).
    RemoteError: an object store cannot be reached.
  """
  if hub.is_on_hub(path):
    return _read_folder(hub.fetched(str(path)), str(path))
  if is_remote(path):
    return _read_remote(str(path).rstrip("/"))
  folder = pathlib.Path(path)
  if folder.exists():
    if openmhc.is_release(folder) or exported.is_exported(folder):
      return _read_folder(folder, str(folder))
    return _with_uncertainty(checkpoint.read(path), folder)
  if working_copy.remote_checkpoints(path):  # of a run in a bucket, whose local folder need not exist
    return checkpoint.read(path)
  shipped = weights.folder(str(path))
  if shipped is None:
    raise CheckpointError(f"{folder.absolute()}: no such folder; expected {_expected()}")
  return exported.read(shipped)


def _read_folder(folder: pathlib.Path, where: str) -> Restored:
  return openmhc.read(folder, where) if openmhc.is_release(folder) else exported.read(folder, where)


def _with_uncertainty(restored: Restored, folder: pathlib.Path) -> Restored:
  """The model with the table of its errors, if its workdir has one (--mode=calibrate) that is of these parameters.

  Raises:
    CheckpointError: uncertainty.json is not what was written.
  """
  workdirs = [folder, *([folder.absolute().parents[1]] if folder.absolute().parent.name == CHECKPOINTS else [])]
  path = next((workdir / UNCERTAINTY for workdir in workdirs if (workdir / UNCERTAINTY).is_file()), None)
  if path is None:
    return restored
  try:
    table = dict(parse_json_object(read_text(path), str(path)))
  except SchemaError as error:
    raise CheckpointError(f"{error}; delete it, and --mode=calibrate makes a new one") from None
  known, of = table.pop("digest", None), table.get("of")
  if known is not None and known != digest(table):
    raise CheckpointError(f"{path}: is not what was written; delete it, and --mode=calibrate makes a new one")
  if known is None or of != parameters_digest(restored):
    why = "is of other parameters" if known else "has no digest, as nothing of this version"
    print(f"note: {path} {why}, and is not read; --mode=calibrate makes a new one", file=sys.stderr)
    return restored
  del table["of"]
  return dataclasses.replace(restored, metadata={**restored.metadata, UNCERTAINTY_KEY: table})


def write_uncertainty(workdir: pathlib.Path, of: str, table: Mapping[str, Any]) -> None:
  """Writes uncertainty.json, with a digest that tells whether it is changed later.

  Args:
    workdir: the folder of the run.
    of: parameters_digest of the model.
    table: JSON-able data without NaN.
  """
  content = {"of": of, **table}
  replace_text(workdir / UNCERTAINTY, json_text({"digest": digest(content), **content}, indent=2) + "\n")


def parameters_digest(restored: Restored) -> str:
  """Names the parameters of a model: the same for the same ones."""
  return digest(checksums(restored.params))


def saved_parameters_digest(workdir: pathlib.Path) -> str | None:
  """`parameters_digest` of a workdir's newest checkpoint, by the checksums beside its arrays, which are not read.

  None where there is no checkpoint, or none with checksums.
  """
  metadata = checkpoint.newest_metadata(workdir)
  if metadata is None or "checksums" not in metadata:
    return None
  return digest(metadata["checksums"]["ema" if "ema" in metadata["items"] else "params"])


def stored_schema(path: str | pathlib.Path) -> Schema | None:
  """The schema of a trained model on this machine, without its parameters; None where only `read` can tell."""
  if hub.is_on_hub(path) or is_remote(path):
    return None
  folder = pathlib.Path(path) if pathlib.Path(path).exists() else weights.folder(str(path))
  if folder is None:
    return None
  if openmhc.is_release(folder):
    return openmhc.schema()
  try:
    return exported.stored_schema(folder) if exported.is_exported(folder) else checkpoint.stored_schema(folder)
  except UserError:
    return None


def _read_remote(url: str) -> Restored:
  if exported.ARRAYS in RemoteFolder(url).children():
    return exported.read(copies.local(url), url)
  return checkpoint.read(url)


def _expected() -> str:
  names = weights.names()
  shipped = (
    f"the name of shipped weights ({', '.join(names)})" if names else "the name of shipped weights (there are none)"
  )
  return f"a workdir, a checkpoint, an exported folder, hf://owner/name, or {shipped}"
