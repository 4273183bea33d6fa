"""Identity of a finished command of a study: its resolved config, its data and the code that ran it.

A command's text is not enough: the experiment that it names can be edited, a file of days can be replaced, and code
changes. Neither does the text have to be the same: a workdir and files of days may be given by a relative or an
absolute path, and a tuple with or without brackets.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

import aim.evaluation.defaults
import aim.inference.defaults
import aim.model.defaults
import aim.training.defaults
from aim.common import config_files
from data_pipelines.dataset import Dataset

PACKAGES = ("aim", "data_pipelines")
# Rooms of aim that no command of a cell runs.
ABOVE_THE_CELLS = ("planning", "report", "studies")
# Config values that say where something lies or how a run is watched; results do not depend on them.
WITHOUT_EFFECT = ("data.dir", "log", "checkpoint")


def fingerprint(mode: str, config: ml_collections.ConfigDict, data: Mapping[str, Any]) -> str:
  """12 hex digits for what `mode` computes with a resolved config on data of this identity, by the code as it is now.

  Training does not read the config groups of the evaluations, so they are no part of the fingerprint of "pretrain".
  """
  rooms = [aim.model.defaults.defaults(), aim.training.defaults.defaults()]
  if mode != "pretrain":
    rooms += [aim.inference.defaults.defaults(), aim.evaluation.defaults.defaults()]
  groups = {key for room in rooms for key in room}
  values = {
    key: value
    for key, value in config_files.leaves(config_files.to_dict(config))
    if key.split(".")[0] in groups and not key.startswith(WITHOUT_EFFECT)
  }
  return digest({"mode": mode, "config": values, "data": data, "code": code()})


def digest(value: Any) -> str:
  """12 hex digits of a value that JSON can hold."""
  return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


def built_data(data_dir: str, name: str) -> dict[str, str]:
  """The identity of a dataset that is built: digests of what it was built from and of what it holds.

  Raises:
    UserError: there is no such dataset.
  """
  dataset = Dataset.open(data_dir, name)
  request = hashlib.blake2b((dataset.path / "request.json").read_bytes(), digest_size=16).hexdigest()
  return {"request": request, "content": dataset.digest}


def code() -> str:
  """A digest of the sources of aim and data_pipelines, but for those rooms that no command of a cell runs."""
  total = hashlib.blake2b(digest_size=16)
  for name, path in source_files():
    total.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
  return total.hexdigest()


def source_files() -> Iterator[tuple[str, pathlib.Path]]:
  """Yields (name, path) of the files whose content is the code, such as "aim/model/loss.py"."""
  for package in PACKAGES:
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
      for path in sorted(pathlib.Path(folder).rglob("*")):
        parts = path.relative_to(folder).parts
        if path.suffix in (".py", ".cc") and not (package == "aim" and parts[0] in ABOVE_THE_CELLS):
          yield "/".join((package, *parts)), path
