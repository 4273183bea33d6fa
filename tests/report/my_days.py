"""Made-up exports of a watch, and a model of their channels with random parameters, for tests of --mode=report."""

import dataclasses
import datetime
import json
import pathlib
import zipfile

import jax.numpy as jnp
import numpy as np

from aim.common import config_files
from aim.inference.pretrained import Pretrained
from aim.model import lsm2
from aim.training import checkpoint
from data_pipelines.schema import Channel, Schema
from tests import tiny

SCHEMA = Schema(60, (Channel("heart_rate", "bpm"), Channel("steps", "count"), Channel("glucose", "mmol/L")))
STATISTICS = {"mean": [70.0, 400.0, 8.0], "std": [12.0, 500.0, 3.0], "min": [40.0, 0.0, 3.0], "max": [180.0, 9e3, 25.0]}


def restored(seed: int = 0) -> checkpoint.Restored:
  """A restored checkpoint with random parameters."""
  config = config_files.resolve("lsm2_tiny", tiny.overrides(name="watch"))
  metadata = {"config": config_files.to_dict(config), "schema": SCHEMA.to_dict(), "statistics": STATISTICS}
  read = checkpoint.without_params(metadata | {"format": 2, "step": 6}, 6, "tests")
  shapes, rng = lsm2.abstract(read.architecture)[1], np.random.default_rng(seed)
  params = {name: jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype) for name, leaf in sorted(shapes.items())}
  return dataclasses.replace(read, params=params)


def model() -> Pretrained:
  """A model of random parameters."""
  return Pretrained(restored())


def export(path: pathlib.Path, days: int, lost: tuple[int, int] = (9, 12), steps: bool = True) -> pathlib.Path:
  """A Fitbit Takeout: heart rate every 20 minutes except in the hours `lost`, and steps; the fourth day is odd."""
  first, rng = datetime.datetime(2020, 6, 1), np.random.default_rng(days)
  heart, walked = [], []
  for minute in range(0, days * 1440, 20):
    at = first + datetime.timedelta(minutes=minute)
    time = f"{at:%m/%d/%y %H:%M:%S}"
    if not lost[0] <= at.hour < lost[1]:
      pulse = 65 + 10 * np.sin(at.hour / 24 * 2 * np.pi) + rng.normal() + 40 * (minute // 1440 == 3)
      heart.append({"dateTime": time, "value": {"bpm": int(pulse), "confidence": 2}})
    walked.append({"dateTime": time, "value": str(int(rng.integers(0, 60)))})
  with zipfile.ZipFile(path, "w") as file:
    file.writestr("Takeout/Fitbit/Global Export Data/heart_rate-2020-06-01.json", json.dumps(heart))
    if steps:
      file.writestr("Takeout/Fitbit/Global Export Data/steps-2020-06-01.json", json.dumps(walked))
  return path
