"""From config values to the objects they set: the first of the two hops a reader makes."""

from __future__ import annotations

import difflib
import json
import pathlib
import runpy
from collections.abc import Iterator
from typing import Any

import ml_collections

from data_pipelines.errors import UserError


class ConfigError(UserError):
  """A config value that cannot be used."""


def load(path: str) -> ml_collections.ConfigDict:
  """What get_config() of a Python file returns."""
  if not pathlib.Path(path).is_file():
    raise ConfigError(f"--config={path}: no such file")
  try:
    found = runpy.run_path(path)
    config = found["get_config"]() if "get_config" in found else None
  except Exception as error:  # whatever a file of Python can do wrong
    raise ConfigError(f"--config={path}: {type(error).__name__}: {error}") from None
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(f"--config={path}: has no get_config() that returns an ml_collections.ConfigDict")
  return config


def simulated_name(data: ml_collections.ConfigDict) -> str:
  """Of the dataset that holds the simulated cohort of config.data."""
  return f"simulated_{data.participants}x{data.days}_seed{data.seed}"


def subset(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """config.data as arguments of data_pipelines.subset.chosen_days; what older configs do not have is without limit."""
  return {
    key: config.data.get(key, without)
    for key, without in (("max_missing", 1.0), ("max_participants", 0), ("max_days", 0))
  }


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The config as plain JSON values."""
  return json.loads(config.to_json_best_effort())


def write(config: ml_collections.ConfigDict, path: pathlib.Path) -> None:
  """The resolved config as JSON, whole or not at all."""
  fresh = path.with_name(f"{path.name}.new")
  fresh.write_text(json.dumps(to_dict(config), indent=2) + "\n")
  fresh.replace(path)


def read(path: pathlib.Path) -> ml_collections.ConfigDict:
  """The config that a run left as config.json."""
  try:
    return ml_collections.ConfigDict(json.loads(path.read_text()))
  except FileNotFoundError:
    raise ConfigError(f"{path}: no such file; expected the workdir of a run, or --config=...") from None
  except (ValueError, TypeError) as error:
    raise ConfigError(f"{path}: not the JSON of a config: {error}") from None


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """("model.encoder.width", 64), ... for every value of a nested config."""
  for key, value in config.items():
    if isinstance(value, dict | ml_collections.ConfigDict):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def check_keys(config: ml_collections.ConfigDict, overrides: list[str]) -> None:
  """ConfigError for an override ("model.widht") that is no key of the config, naming the nearest one."""
  known = [key for key, _ in leaves(config)]
  groups = {key.rsplit(".", i)[0] for key in known for i in range(1, key.count(".") + 1)}
  for key in overrides:
    if key in known:
      continue
    if key in groups:
      raise ConfigError(
        f"--config.{key}: is a group of keys, such as --config.{next(k for k in known if k.startswith(key + '.'))}"
      )
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise ConfigError(f"--config.{key}: no such config key; the nearest is --config.{near[0]}")


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
  """(key, ours, theirs) for every value in which two configs differ."""
  a, b = dict(leaves(ours)), dict(leaves(theirs))
  return [(key, a.get(key), b.get(key)) for key in sorted(a | b) if a.get(key) != b.get(key)]
