"""Golden checkpoints: small models of every release, with what they made of some days, kept for good.

RELEASE/MODEL.zip holds checkpoints/STEP as it was saved, `days.npy` and the `embeddings.npy` and `imputations.npy` that
the release made of them; RELEASE/exported.zip has the exported folder of such a model in place of the checkpoint.
tests/robustness/test_compatibility.py reads all of them with today's code. Before a release:

  python -m tests.golden.checkpoints

adds those of the version in setup.py. What is there is never written again: if today's code no longer reads it, or
reads another model from it, the code is what has to change.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
import tempfile
import zipfile

import numpy as np

import aim
from aim.common import config_files
from aim.training.pretrain import pretrain
from tests import tiny

FOLDER = pathlib.Path(__file__).resolve().parent
STEPS = 2
# {model: (experiment, changes of tiny.RUN)}
MODELS = {
  "lsm2": ("lsm2_tiny", {"optimizer.ema": 0.9}),
  "lsm1": ("lsm1_xs", {"model.patch_channels": 2, "optimizer.ema": 0.0}),
  "msn": ("msn_xs", {"views.prototypes": 8, "views.projection.hidden": 16, "optimizer.ema": 0.0}),
}


def add(release: str) -> list[pathlib.Path]:
  """Writes the golden checkpoints of a release; FileExistsError if it has some."""
  folder = FOLDER / release
  folder.mkdir()
  written = [_write(folder / f"{name}.zip", *MODELS[name]) for name in MODELS]
  return [*written, export(folder / "lsm2.zip")]


def export(path: pathlib.Path) -> pathlib.Path:
  """Writes exported.zip beside a golden checkpoint, of the same model."""
  with tempfile.TemporaryDirectory() as temporary:
    workdir = pathlib.Path(temporary)
    unpacked(path, workdir)
    aim.load(workdir).save(workdir / "exported")
    with zipfile.ZipFile(path.with_name("exported.zip"), "x", zipfile.ZIP_DEFLATED) as archive:
      for file in sorted((*(workdir / "exported").iterdir(), *workdir.glob("*.npy"))):
        archive.write(file, file.relative_to(workdir))
  return path.with_name("exported.zip")


def _write(path: pathlib.Path, experiment: str, changes: dict) -> pathlib.Path:
  towers = {f"model.{side}.{key}": 8 for side in ("encoder", "decoder") for key in ("width", "mlp")}
  run = {"total_steps": STEPS, "sizes": 1, "data.dir": "data", "data.name": "tiny"}
  changes = tiny.RUN | towers | run | changes
  config = config_files.resolve(experiment, [f"--config.{key}={value}" for key, value in changes.items()])
  with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
    workdir = pathlib.Path("run")
    workdir.mkdir()
    pretrain(config, workdir, tiny.dataset(pathlib.Path()))
    model, days = aim.load(workdir), tiny.arrays()["values"][:4]
    arrays = {"days": days, "embeddings": model.embed(days)}
    if model.has_decoder:
      arrays["imputations"] = model.impute(days)
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
      for file in sorted((workdir / "checkpoints" / str(STEPS)).rglob("*")):
        archive.write(file, file.relative_to(workdir))
      for name, array in arrays.items():
        stored = io.BytesIO()
        np.save(stored, array)
        archive.writestr(f"{name}.npy", stored.getvalue())
  return path


def unpacked(path: pathlib.Path, workdir: pathlib.Path) -> dict[str, np.ndarray]:
  """Unpacks a golden checkpoint into a workdir; returns its arrays by name."""
  with zipfile.ZipFile(path) as archive:
    archive.extractall(workdir)
  return {file.stem: np.load(file) for file in workdir.glob("*.npy")}
