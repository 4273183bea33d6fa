"""Whose scores the result files of a workdir are: scored/MODE.json names the model and has a digest of each file.

A workdir may be trained further after it was scored, may hold scores of a --checkpoint from elsewhere, and files may be
copied into it. So whoever shows scores as those of a model asks `why_left_out` first.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from aim.inference.pretrained import Pretrained
from aim.training.trained import source
from data_pipelines.digests import FileDigest
from data_pipelines.errors import UserError
from data_pipelines.text_files import json_text, parse_json_object, read_text, replace_text

# The files that each mode writes and that are read as scores of its model.
FILES = {
  "evaluate": ("generative.csv", "evaluate/*.csv"),
  "heldout": ("heldout.json",),
  "probe": ("probe/*.csv",),
  "finetune": ("finetune/*.csv",),
  "robustness": ("robustness/*.csv",),
}


class ScoredModelError(UserError):
  """A record of a scored model cannot be read."""


@dataclasses.dataclass(frozen=True)
class ScoredModel:
  """A model as a record of scores names it.

  Attributes:
    name: the config's `name`.
    step: of the checkpoint.
    parameters: digest of its parameters.
  """

  name: str
  step: int
  parameters: str

  @classmethod
  def of(cls, model: Pretrained) -> ScoredModel:
    """The model that is loaded."""
    return cls(model.name, model.trained_steps, model.parameters_digest)

  @property
  def text(self) -> str:
    """Such as "LSM-2 at step 6 (parameters 1f0c2a9b)"."""
    return f"{self.name} at step {self.step:,} (parameters {self.parameters[:8]})"


def record(workdir: pathlib.Path, mode: str, model: ScoredModel) -> None:
  """Records that what a mode has just written into a workdir are scores of this model."""
  content = dataclasses.asdict(model) | {"files": _digests(workdir, mode)}
  path = _path(workdir, mode)
  path.parent.mkdir(parents=True, exist_ok=True)
  replace_text(path, json_text(content, indent=2) + "\n")


def recorded(workdir: pathlib.Path, mode: str) -> ScoredModel | None:
  """The model whose scores a mode wrote into a workdir; None where no record says so.

  Raises:
    ScoredModelError: the record is damaged.
  """
  content = _read(workdir, mode)
  return _model(content, _path(workdir, mode)) if content else None


def why_not_own(workdir: pathlib.Path, mode: str) -> str:
  """One line that says why the scores of a mode are not of the newest checkpoint of their workdir; "" if they are.

  They are not if a file is changed or missing since the mode wrote it, and if files came with their record from another
  workdir.
  """
  path = _path(workdir, mode)
  try:
    content = _read(workdir, mode)
    if not content:
      return f"{path}: is missing, which --mode={mode} wrote"
    scored = _model(content, path)
  except UserError as error:
    return str(error)
  if changed := _changed(workdir, mode, content):
    return f"{workdir / changed}: is not as --mode={mode} wrote it"
  if source.saved_parameters_digest(workdir) not in (None, scored.parameters):
    return f"{path}: its scores are of {scored.text}, which is not the newest checkpoint of {workdir}"
  return ""


def why_left_out(workdir: pathlib.Path, mode: str, shown: ScoredModel | None) -> str:
  """One line that says why the scores of a mode are not those of a model; "" if they are.

  Args:
    workdir: with the files.
    mode: that wrote them.
    shown: the model that they would be shown for; None if it cannot be told.

  Raises:
    ScoredModelError: the record is damaged.
  """
  where, again = f"{workdir / FILES[mode][0]}", f"left out; score the model again with --mode={mode}"
  content = _read(workdir, mode)
  if not content:
    return f"{where}: does not record which model its scores are of, so they are {again}"
  scored = _model(content, _path(workdir, mode))
  if changed := _changed(workdir, mode, content):
    return f"{workdir / changed}: is not as --mode={mode} wrote it for {scored.text}, so these scores are {again}"
  if shown is None or (scored.step, scored.parameters) == (shown.step, shown.parameters):
    return ""
  return f"{where}: its scores are of {scored.text}, not of {shown.text}, so they are {again}"


def _path(workdir: pathlib.Path, mode: str) -> pathlib.Path:
  return workdir / "scored" / f"{mode}.json"


def _digests(workdir: pathlib.Path, mode: str) -> dict[str, str]:
  """The digest of each file of a mode, by its name in the workdir."""
  paths = sorted(path for pattern in FILES[mode] for path in workdir.glob(pattern))
  return {path.relative_to(workdir).as_posix(): FileDigest.of(path).blake2b for path in paths}


def _changed(workdir: pathlib.Path, mode: str, content: Mapping[str, Any]) -> str:
  """The first file of a mode that differs from what its record says; "" if none does."""
  now, then = _digests(workdir, mode), content["files"]
  return min((name for name in {*now, *then} if now.get(name) != then.get(name)), default="")


def _read(workdir: pathlib.Path, mode: str) -> Mapping[str, Any]:
  path = _path(workdir, mode)
  return parse_json_object(read_text(path), str(path)) if path.is_file() else {}


def _model(content: Mapping[str, Any], path: pathlib.Path) -> ScoredModel:
  kinds = {"name": str, "step": int, "parameters": str, "files": dict}
  for key, kind in kinds.items():
    if not isinstance(content.get(key), kind):
      raise ScoredModelError(f"{path}: {key} is {content.get(key)!r}, expected {kind.__name__}")
  return ScoredModel(content["name"], content["step"], content["parameters"])
