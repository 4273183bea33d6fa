"""Results that no model produced, and workdirs without a model."""

import pathlib

import ml_collections

from aim.evaluation.results import Result
from aim.report.workdir import Workdir
from data_pipelines.errors import SchemaError

HOSTILE = "<script>alert(1)</script>"


def made_up(kind: str, model: str, better: float = 0.1) -> list[Result]:
  """Results of the model beside two others, with a paired difference to one of them."""
  levels = {
    "finetune": ("1 % of labels", "10 % of labels", "100 % of labels"),
    "robustness": ("without PPG", "at night"),
  }
  rows = []
  for level in levels.get(kind, ("30 %", "80 %")):
    for name, value in ((model, 0.5 - better), ("linear", 0.5), (HOSTILE, 0.6)):
      rows.append(Result("tiny", "random", level, name, "mse", value, value - 0.02, value + 0.02, 9, 0))
    rows.append(Result("tiny", "random", level, model, "mse vs linear %", -200 * better, -25.0, -15.0, 9, 0, "linear"))
  return rows


def workdir_of(path: pathlib.Path, name: str = "LSM-2") -> Workdir:
  """A workdir of a run whose dataset does not exist."""

  def nothing(config):
    raise SchemaError("no data here")

  return Workdir(path, ml_collections.ConfigDict({"name": name}), nothing)
