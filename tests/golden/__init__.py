"""Golden files: the resolved config of every experiment, and where each parameter lives on three meshes.

A change of a config or a sharding rule shows as a diff of these files, which is read in review. To accept it:

  python -m tests.golden
"""

from __future__ import annotations

import difflib
import importlib
import json
import pathlib
import re
from collections import Counter

from aim.common import config_files
from aim.model import from_config, lsm2
from aim.runtime import sharding
from data_pipelines.lsm2_schema import LSM2_SCHEMA

FOLDER = pathlib.Path(__file__).resolve().parent
EXPERIMENTS = sorted(path.stem for path in (FOLDER.parent.parent / "experiments").glob("[a-z]*.py"))
MESHES = {"data 8": (8, 1, 1), "fsdp 8": (1, 8, 1), "2 x 2 x 2": (2, 2, 2)}


def config(name: str) -> str:
  """The resolved config of experiments/NAME.py as JSON."""
  return json.dumps(config_files.to_dict(_experiment(name)), indent=2) + "\n"


def shardings(name: str) -> str:
  """A table of the mesh axes over which every parameter of experiments/NAME.py is split; needs eight devices.

  Equal layers share a row, which has their number.
  """
  shapes = lsm2.abstract(from_config.architecture(_experiment(name), LSM2_SCHEMA))[1]
  meshes = [sharding.make_mesh(*shape) for shape in MESHES.values()]
  rows: Counter[tuple[str, ...]] = Counter()
  for parameter, leaf in shapes.items():
    shape = " x ".join(map(str, leaf.shape))
    specs = (_spec(sharding.parameter_spec(parameter, leaf.shape, device_mesh), device_mesh) for device_mesh in meshes)
    rows[re.sub(r"/\d+/", "/*/", parameter), shape, *specs] += 1
  table = [("parameter", "count", "shape", *MESHES)]
  table += sorted((parameter, str(count), *specs) for (parameter, *specs), count in rows.items())
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  lines = ("  ".join(field.ljust(width) for field, width in zip(row, widths, strict=True)).rstrip() for row in table)
  return "\n".join(lines) + "\n"


def _experiment(name: str):
  return importlib.import_module(f"experiments.{name}").get_config()


def _spec(spec, device_mesh) -> str:
  """The axes of each dimension; an axis with one device splits nothing and is left out."""
  axes = [axis if axis and device_mesh.shape[axis] > 1 else "-" for axis in spec]
  return " x ".join(axes) if set(axes) - {"-"} else "whole"


FILES = {f"{name}.json": (config, name) for name in EXPERIMENTS} | {
  f"{name}_shardings.txt": (shardings, name) for name in ("lsm2_xs", "lsm2_base")
}


def current(file: str) -> str:
  """The golden file as it would be written now."""
  make, name = FILES[file]
  return make(name)


def difference(file: str) -> str:
  """A unified diff from the golden file to the current one; empty if they are equal."""
  path = FOLDER / file
  golden = path.read_text() if path.exists() else ""
  names = (f"tests/golden/{file}", "now")
  return "".join(difflib.unified_diff(golden.splitlines(True), current(file).splitlines(True), *names))
