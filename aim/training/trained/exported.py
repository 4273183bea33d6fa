"""A trained model as a folder of safetensors and JSON, which other programs read without this one.

    model.safetensors   the parameters as inference uses them, under the names that they have in checkpoints
    config.json         format, trained steps, how the parameters are stored, the resolved config of the run, what names
                        its training data, how many people and days those are, and whatever else a checkpoint knows of
                        how it came about, but for the digests of people
    schema.json         clock and channels of the days
    statistics.json     mean, SD, minimum and maximum of every channel in the training data, in its unit
    checksums.json      of each array and of each file above
    README.md           the model card; people may change it

Whatever is read is compared with its checksum, as a checkpoint is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array
from ml_collections import ConfigDict
from safetensors import SafetensorError
from safetensors.flax import load_file, save_file

from aim.common import config_files, output_files, seen_people
from aim.common.config_files import ConfigError
from aim.model import lsm2
from aim.training import checkpoint
from aim.training.checkpoint import Restored
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.checksums import checksums, first_difference
from aim.training.defaults import defaults
from data_pipelines import text_files
from data_pipelines.channels import vocabulary
from data_pipelines.errors import SchemaError, first_line
from data_pipelines.schema import Schema
from data_pipelines.text_files import json_text, read_json, remove_abandoned, unfinished

FORMAT = 1
ARRAYS, CONFIG, SCHEMA, STATISTICS = "model.safetensors", "config.json", "schema.json", "statistics.json"
CHECKSUMS, CARD = "checksums.json", "README.md"
FILES = (ARRAYS, CONFIG, SCHEMA, STATISTICS, CHECKSUMS, CARD)
DTYPES = ("float32", "float16", "bfloat16")
VOCABULARY = "vocabulary_version"
_OF_A_CHANNEL = ("mean", "std", "min", "max")
# Config keys that name a file or folder of the machine that trained.
_PATHS = (("data", "vocabulary"), ("init", "checkpoint"), ("evaluate", "export"), ("evaluate", "external"))


def vocabulary_version(restored: Restored) -> int | None:
  """Version of the channel vocabulary that a model's channels have their places from; None if it is the schema."""
  if VOCABULARY in restored.metadata:  # of the export that it was read from
    return restored.metadata[VOCABULARY]
  if restored.config.model.places == "schema":
    return None
  known = vocabulary.load()
  pairs = zip(map(known.find, restored.schema.names), restored.architecture.places, strict=True)
  return known.version if all(entry is None or entry.place == place for entry, place in pairs) else None


def is_exported(folder: pathlib.Path) -> bool:
  """True if a folder is, or is what remains of, an exported one."""
  has = lambda name: (folder / name).is_file()
  return has(ARRAYS) or has(CHECKSUMS) or (has(SCHEMA) and has(STATISTICS))


def write(
  restored: Restored, folder: str | os.PathLike, card: str, dtype: str = "float32", overwrite: bool = False
) -> None:
  """Writes an exported folder, whole or not at all.

  Args:
    restored: the model.
    folder: to be made; its parent is made too.
    card: the text of README.md.
    dtype: how parameters are stored; half of the bytes in "float16" or "bfloat16", which round them. Other arrays than
      float32 ones stay as they are.
    overwrite: whether `folder` may be an exported folder, which is replaced.

  Raises:
    ConfigError: the folder exists or cannot be written, or dtype is unknown.
    CheckpointError: a parameter is beyond the range of dtype.
  """
  target = pathlib.Path(folder).absolute()
  check_target(target, overwrite)
  arrays = _stored(restored.params, dtype)
  known = seen_people.without_digests(restored.metadata)
  schema, known_statistics = known.pop("schema"), known.pop("statistics")
  statistics = {key: list(known_statistics[key]) for key in _OF_A_CHANNEL}
  known.pop("format", None)  # of checkpoints
  known.pop("step", None)
  with built_beside(target) as building:
    with naming_native_errors(target):
      save_file(dict(arrays), building / ARRAYS)  # which changes the dict
    about = {"format": FORMAT, "trained_steps": restored.step, "dtype": dtype} | known
    about |= {VOCABULARY: vocabulary_version(restored)}
    about |= _without_folders(known)
    (building / CONFIG).write_text(json_text(about, indent=2) + "\n")
    shutil.copymode(building / CONFIG, building / ARRAYS)  # safetensors lets nobody else read what it writes
    (building / SCHEMA).write_text(json_text(schema, indent=2) + "\n")
    by_channel = {
      name: dict(zip(statistics, values, strict=True))
      for name, *values in zip(restored.schema.names, *statistics.values(), strict=True)
    }
    (building / STATISTICS).write_text(json_text(by_channel, indent=2) + "\n")
    content = {
      "format": FORMAT,
      "files": {name: _digest((building / name).read_bytes()) for name in (ARRAYS, CONFIG, SCHEMA, STATISTICS)},
      "arrays": checksums(arrays),
    }
    (building / CHECKSUMS).write_text(json.dumps(content | {"digest": _digest_of(content)}, indent=2) + "\n")
    (building / CARD).write_text(card)


def _without_folders(known: Mapping[str, Any]) -> dict[str, Any]:
  """The config and, if there is one, the history of a run without the folders of the machine that trained."""
  config = config_files.to_dict(ConfigDict(known["config"]))
  if "dir" in config.get("data", ()):
    config["data"]["dir"] = defaults().data.dir
  for group, key in _PATHS:
    if key in config.get(group, ()):
      config[group][key] = without_folder(config[group][key])
  if "history" not in known:
    return {"config": config}
  named = lambda entry: entry | {"checkpoint": without_folder(entry["checkpoint"])} if "checkpoint" in entry else entry
  return {"config": config, "history": [named(dict(entry)) for entry in known["history"]]}


def without_folder(path: str) -> str:
  """The last part of a path; a model on a hub, which everybody can find, keeps its address."""
  return path if path.startswith("hf:") else pathlib.PurePath(path).name


def check_target(folder: pathlib.Path, overwrite: bool, own_names: Collection[str] = FILES) -> None:
  """Checks that an exported folder may be written, before the work.

  Args:
    folder: to be made.
    overwrite: whether it may be an exported folder, which is replaced.
    own_names: of the files that such a folder has.

  Raises:
    ConfigError: there is something else, or an exported folder and not `overwrite`; or its parent cannot be written.
  """
  where = f"export to {folder}"
  if folder.exists() and not folder.is_dir():
    raise ConfigError(f"{where}: is a file, expected a folder to make")
  names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
  foreign = [name for name in names if name not in own_names]
  if foreign:
    raise ConfigError(f"{where}: the folder exists and holds {foreign[0]!r}, which is of no export; expected a new one")
  if names and not overwrite:
    raise ConfigError(f"{where}: the folder exists; --overwrite (in Python overwrite=True) replaces it")
  output_files.check_folder(folder.parent, where)


@contextlib.contextmanager
def built_beside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder to write, which gets its name only when everything in it is written.

  What processes that were killed have left of earlier ones is removed.
  """
  own = uuid.uuid4().hex
  building, old = (folder.with_name(f".{folder.name}.{own}.{what}") for what in ("incomplete", "old"))
  abandoned = rf"\.{re.escape(folder.name)}\.[0-9a-f]+\."
  with output_files.naming(f"export to {folder}"):
    remove_abandoned(folder.parent, abandoned + "incomplete")
    with unfinished(building, folder=True):
      yield building
      if folder.is_dir():
        folder.rename(old)
      try:
        building.rename(folder)
      except OSError as error:
        if folder.exists():
          shutil.rmtree(old, ignore_errors=True)
          raise ConfigError(
            f"export to {folder}: another process exported there meanwhile; its export stays"
          ) from error
        if old.is_dir():
          old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
    for name in os.listdir(folder.parent):  # not before: it may have been all that was left of the export
      if re.fullmatch(abandoned + "old", name) and not folder.with_name(f"{name[:-3]}incomplete").exists():
        shutil.rmtree(folder.with_name(name), ignore_errors=True)


@contextlib.contextmanager
def naming_native_errors(folder: pathlib.Path) -> Iterator[None]:
  """Turns what safetensors raises about a full disk, which is no OSError, into one line that names the file."""
  try:
    yield
  except SafetensorError as error:
    reason = first_line(error, 300).removeprefix("Error while serializing: ").removeprefix("I/O error: ")
    raise ConfigError(f"export to {folder}: {ARRAYS} cannot be written: {reason}") from error


def _stored(params: Mapping[str, Array], dtype: str) -> dict[str, Array]:
  """The parameters as they are stored.

  Raises:
    ConfigError: dtype is unknown.
    CheckpointError: a value is too large for it.
  """
  if dtype not in DTYPES:
    raise ConfigError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
  arrays = {
    name: value.astype(dtype) if value.dtype == jnp.float32 else value for name, value in sorted(params.items())
  }
  for name, stored in arrays.items():
    if not (jnp.isfinite(stored) | ~jnp.isfinite(params[name])).all():
      raise CheckpointError(f"export: array {name!r} has values beyond {dtype}; store it as bfloat16 or float32")
  return arrays


def read(folder: pathlib.Path, where: str | None = None) -> Restored:
  """Reads an exported folder.

  Args:
    folder: local.
    where: names it in messages; by default the folder.

  Raises:
    CheckpointError: something of it is lost or changed, a later version wrote it, or this one cannot use it.
  """
  where = where or str(folder)
  if not is_exported(folder):
    raise CheckpointError(f"{where}: holds no exported model, which has {', '.join(FILES[:-1])}")
  expected = _expected_checksums(folder, where)
  for name in (CONFIG, SCHEMA, STATISTICS):
    _check_file(folder, name, expected, where)
  about, schema, statistics = (_json(folder, name, where) for name in (CONFIG, SCHEMA, STATISTICS))
  number = about.get("format")
  if not isinstance(number, int) or number > FORMAT:
    raise CheckpointError(f"{where}: has format {number}, expected at most {FORMAT}: a later version wrote it")
  try:
    names = [channel["name"] for channel in schema["channels"]]
    metadata = {key: value for key, value in about.items() if key not in ("format", "trained_steps", "dtype")} | {
      "step": about["trained_steps"],
      "schema": schema,
      "statistics": {key: [statistics[name][key] for name in names] for key in _OF_A_CHANNEL},
    }
  except (KeyError, TypeError) as error:
    raise CheckpointError(f"{where}: not an export of this program: {first_line(error, 300)}") from None
  # Those who load a shared model have no use for a list of config keys that are newer than it.
  restored = checkpoint.without_params(metadata, about["trained_steps"], where, tell_missing=False)
  return dataclasses.replace(restored, params=_params(folder, expected, restored, where))


def stored_schema(folder: pathlib.Path) -> Schema:
  """The schema of an exported folder, whose other files are not read.

  Raises:
    CheckpointError: it cannot be read.
  """
  _check_file(folder, SCHEMA, _expected_checksums(folder, str(folder)), str(folder))
  return Schema.from_dict(_json(folder, SCHEMA, str(folder)))


def _params(folder: pathlib.Path, expected: Mapping[str, Any], restored: Restored, where: str) -> dict[str, Array]:
  """The parameters in the dtypes of the model.

  Raises:
    CheckpointError: an array is not what was written, or not what the config describes.
  """
  path = folder / ARRAYS
  _check_is_file(path, where)
  try:
    found = _digest(path.read_bytes())
    with jax.default_device(jax.local_devices()[0]):
      arrays = load_file(path)
  except OSError as error:
    raise CheckpointError(f"{where}: {ARRAYS}: {error.strerror}; restore the folder from a copy") from None
  except (SafetensorError, ValueError, KeyError, TypeError) as error:
    raise _damaged(where, ARRAYS, f"cannot be read: {first_line(error, 300)}") from None
  if difference := first_difference(expected["arrays"], checksums(arrays)):
    raise _damaged(where, ARRAYS, difference)
  if found != expected["files"][ARRAYS]:
    raise _damaged(where, ARRAYS, "its header is not what was written")
  shapes = lsm2.abstract(restored.architecture)[1]
  for name in sorted(shapes.keys() | arrays.keys()):
    ours, theirs = (side[name].shape if name in side else None for side in (shapes, arrays))
    if ours != theirs:
      raise CheckpointError(
        f"{where}: {ARRAYS}: array {name!r} is {theirs or 'missing'}, expected {ours or 'no such array'} by {CONFIG}"
      )
  return {name: arrays[name].astype(leaf.dtype) for name, leaf in shapes.items()}


def _expected_checksums(folder: pathlib.Path, where: str) -> dict[str, Any]:
  """The content of checksums.json.

  Raises:
    CheckpointError: it is missing or is not what was written.
  """
  content = _json(folder, CHECKSUMS, where)
  digest = content.pop("digest", None)
  if digest != _digest_of(content) or set(content.get("files", ())) != {ARRAYS, CONFIG, SCHEMA, STATISTICS}:
    raise _damaged(where, CHECKSUMS, "is not what was written")
  return content


def _check_is_file(path: pathlib.Path, where: str) -> None:
  """Raises CheckpointError for what is no file on disk, such as a pipe, which reading could wait for without end."""
  try:
    text_files.check_regular(path)
  except SchemaError as error:
    fault = str(error).removeprefix(f"{path}: ")
    raise CheckpointError(f"{where}: {path.name}: {fault}; restore the folder from a copy") from None


def _check_file(folder: pathlib.Path, name: str, expected: Mapping[str, Any], where: str) -> None:
  _check_is_file(folder / name, where)
  try:
    found = _digest((folder / name).read_bytes())
  except OSError as error:
    raise CheckpointError(f"{where}: {name}: {error.strerror}; restore the folder from a copy") from None
  if found != expected["files"][name]:
    raise _damaged(where, name, f"is not what was written (digest {found}, expected {expected['files'][name]})")


def _json(folder: pathlib.Path, name: str, where: str) -> dict[str, Any]:
  _check_is_file(folder / name, where)
  try:
    content = read_json(folder / name)
  except SchemaError as error:
    raise _damaged(where, name, str(error).removeprefix(f"{folder / name}: ")) from None
  if not isinstance(content, dict):
    raise _damaged(where, name, "is no JSON object")
  return content


def _damaged(where: str, name: str, fault: str) -> CheckpointError:
  return CheckpointError(f"{where}: {name} is damaged: {fault}; restore the folder from a copy")


def _digest(raw: bytes) -> str:
  return hashlib.blake2b(raw, digest_size=16).hexdigest()


def _digest_of(content: Mapping[str, Any]) -> str:
  return _digest(json.dumps(content, sort_keys=True).encode())
