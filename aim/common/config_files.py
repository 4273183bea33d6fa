"""Experiment configs: finding, reading, completing, comparing and writing them."""

from __future__ import annotations

import difflib
import importlib.util
import json
import pathlib
import re
import runpy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from data_pipelines.errors import SchemaError, UserError
from data_pipelines.streams import in_words
from data_pipelines.text_files import json_text, read_json, replace_text

# What ml_collections says when a key is set to a value of another type.
_OTHER_TYPE = re.compile(
  r"Could not override field '(.*?)' \(reference\)\. (.*) is of original type <class '(.*)'> "
  r".* casted to type <class '(.*)'>",
  re.DOTALL,
)


class ConfigError(UserError):
  """A config value that cannot be used."""


def shipped() -> dict[str, pathlib.Path]:
  """The experiments installed with this package, {"lsm2_tiny": its file, ...}."""
  package = importlib.util.find_spec("experiments")
  folders = list(package.submodule_search_locations or ()) if package else []
  files = sorted(file for folder in folders for file in pathlib.Path(folder).glob("*.py"))
  return {file.stem: file for file in files if not file.stem.startswith("_")}


def find(name: str) -> pathlib.Path:
  """The config file called `name`: a path that ends in .py, or the name of a shipped experiment.

  A path of a shipped experiment, such as experiments/lsm2_tiny.py, is also found where there is no such folder.

  Raises:
    ConfigError: there is none; the message names the shipped experiment of a similar name, or all of them.
  """
  path = pathlib.Path(name)
  if path.is_file():
    return path
  experiments = shipped()
  if path.stem in experiments and path in (pathlib.Path(path.stem), pathlib.Path("experiments", f"{path.stem}.py")):
    return experiments[path.stem]
  what = "no such file" if path.suffix == ".py" else "no shipped experiment of this name"
  if path.exists():
    what = "is a folder" if path.is_dir() else "is a device or a pipe, expected a .py file"
  nearest = difflib.get_close_matches(path.stem, experiments, n=1)
  hint = f"the nearest shipped experiment is --config={nearest[0]}" if nearest else f"shipped: {', '.join(experiments)}"
  raise ConfigError(f"--config={name}: {what}; {hint}")


def load(name: str) -> ml_collections.ConfigDict:
  """The config of a Python file or of a shipped experiment: what its get_config() returns.

  Raises:
    ConfigError: no such file or experiment, or it has no working get_config().
  """
  path = find(name)
  try:
    members = runpy.run_path(str(path))
    config = members["get_config"]() if "get_config" in members else None
  except Exception as error:  # a Python file can raise anything
    other_type = _OTHER_TYPE.match(str(error))
    if other_type:
      key, value, found, expected = other_type.groups()
      value = repr(value) if found == "str" else f"{value} of type {found}" if "." in found else value
      expected = {"int": "a whole number", "float": "a number"}.get(expected, f"a {expected}")
      expected += " of Python" if "." in found else ""
      raise ConfigError(f"--config={name}: key {key!r} is {value}, expected {expected}") from None
    raise ConfigError(f"--config={name}: {type(error).__name__}: {error}") from None
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(f"--config={name}: has no get_config() that returns an ml_collections.ConfigDict")
  return config


def resolve(name: str, overrides: Sequence[str]) -> ml_collections.ConfigDict:
  """The config of an experiment with overrides "--config.key=value", parsed as on the command line.

  Raises:
    ConfigError: no such experiment, an unknown key, or a value of another type.
  """
  for override in overrides:
    if not override.startswith("--config."):
      raise ConfigError(f"--config={name}: {override!r}, expected --config.key=value")
  check_keys(load(name), [override.removeprefix("--config.").split("=", 1)[0] for override in overrides])
  values = flags.FlagValues()
  arguments = ["", f"--config={find(name)}", *overrides]
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
  try:
    values(arguments)
  except (flags.Error, TypeError, ValueError) as error:
    raise ConfigError(f"--config={name}: {in_words(error).splitlines()[0]}") from None
  return values["config"].value


def with_defaults(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
  defaults: Iterable[ml_collections.ConfigDict],
  where: str,
  made_with: Mapping[str, Any] | None = None,
  tell_missing: bool = True,
) -> ml_collections.ConfigDict:
  """A config that another version of this program wrote, in the keys of this version.

  A missing key takes its value in `made_with`, or else its default, which is reported with `where`. A key that is not
  among the defaults is reported and left out, except that whole groups without any default, which belong to rooms that
  the caller does not know, stay as they are.

  Args:
    config: what was written.
    defaults: of the rooms that the caller knows.
    where: names the file in messages.
    made_with: {"model.qk_init": 0.0, ...}, for keys whose absence stands for something else than today's default.
    tell_missing: whether missing keys are reported.
  """
  rooms = list(defaults)
  known = _known(rooms)
  values = dict(leaves(ml_collections.ConfigDict(config)))
  missing = {key: (made_with or {}).get(key, default) for key, default in known.items() if key not in values}
  unknown = unknown_keys(config, rooms)
  for key in unknown:
    print(f"{where}: config key {key} is not known to this version and has no effect")
  if missing and tell_missing:
    settings = ", ".join(f"{key}={value!r}" for key, value in sorted(missing.items()))
    print(f"{where}: was written by a version without some config keys, which are taken as {settings}")
  complete: dict[str, Any] = {key: value for room in rooms for key, value in room.to_dict().items()}
  for key, value in (missing | {key: value for key, value in values.items() if key not in unknown}).items():
    *parents, name = key.split(".")
    group = complete
    for parent in parents:
      group = group.setdefault(parent, {})
    group[name] = value
  return ml_collections.ConfigDict(complete)


def unknown_keys(
  config: Mapping[str, Any] | ml_collections.ConfigDict, defaults: Iterable[ml_collections.ConfigDict]
) -> list[str]:
  """Keys of a config that another version wrote and that are not among the defaults of the rooms that have its group.

  Where one version has a value and the other has a group of that name, the key is unknown too.
  """
  known = _known(defaults)
  groups = {key.split(".")[0] for key in known}
  inside = lambda key: "." not in key or key.split(".")[0] in groups
  return [key for key, _ in leaves(ml_collections.ConfigDict(config)) if key not in known and inside(key)]


def _known(defaults: Iterable[ml_collections.ConfigDict]) -> dict[str, Any]:
  return {key: value for room in defaults for key, value in leaves(room)}


def simulated_name(data: ml_collections.ConfigDict) -> str:
  """Name of the dataset that holds the simulated cohort of config.data."""
  return f"simulated_{data.participants}x{data.days}_seed{data.seed}"


def subset(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The limits on training days in config.data, as arguments of data_pipelines.subset.chosen_days."""
  return {key: config.data[key] for key in ("max_missing", "max_participants", "max_days")}


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The config as plain JSON values."""
  return json.loads(config.to_json_best_effort())


def write(config: ml_collections.ConfigDict, path: pathlib.Path) -> None:
  """Writes the resolved config as JSON, in one piece or not at all."""
  replace_text(path, json_text(to_dict(config), indent=2) + "\n")


def read(path: pathlib.Path) -> ml_collections.ConfigDict:
  """The config that a run wrote as config.json.

  Raises:
    ConfigError: no such file, or not the JSON of a config.
  """
  try:
    content = read_json(path)
    if not isinstance(content, dict) or not content:
      raise ConfigError(f"{path}: not the config of a run: holds {str(content)[:40]}, expected an object with its keys")
    return ml_collections.ConfigDict(content)
  except SchemaError as error:
    hint = "" if path.exists() else "; expected the workdir of a run, or --config=..."
    raise ConfigError(f"{error}{hint}") from None
  except (ValueError, TypeError) as error:
    raise ConfigError(f"{path}: not the JSON of a config: {error}") from None


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Yields ("model.encoder.width", 64) and so on for every value of a nested config."""
  for key, value in config.items():
    if isinstance(value, dict | ml_collections.ConfigDict):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def check_keys(config: ml_collections.ConfigDict, overrides: Sequence[str], where: str = "--config.") -> None:
  """Raises ConfigError for an override ("model.widht") that is no key of the config, naming the nearest key.

  In messages `where` stands before a key.
  """
  known = [key for key, _ in leaves(config)]
  groups = {key.rsplit(".", i)[0] for key in known for i in range(1, key.count(".") + 1)}
  for key in overrides:
    if key in known:
      continue
    if key in groups:
      example = next(name for name in known if name.startswith(f"{key}."))
      raise ConfigError(f"{where}{key}: is a group of keys, such as {where}{example}")
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    nearest_key = f"--config.{nearest[0]}" if where == "--config." else nearest[0]
    raise ConfigError(f"{where}{key}: no such config key; the nearest is {nearest_key}")


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
  """(key, our value, their value) for every key in which two configs differ; None stands for a missing key."""
  a, b = dict(leaves(ours)), dict(leaves(theirs))
  return [(key, a.get(key), b.get(key)) for key in sorted(a | b) if a.get(key) != b.get(key)]
