"""Weights that are shipped with the package: one exported model per folder beside this file, loaded by its name."""

from __future__ import annotations

import pathlib

FOLDER = pathlib.Path(__file__).parent


def names() -> tuple[str, ...]:
  """Names of the shipped weights, each of which `aim.load` takes in place of a path."""
  return tuple(sorted(path.parent.name for path in FOLDER.glob("*/model.safetensors")))


def folder(name: str) -> pathlib.Path | None:
  """The folder of shipped weights; None if there are none of this name."""
  return FOLDER / name if name in names() else None
