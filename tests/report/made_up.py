"""Results that no model produced, and workdirs without a model."""

import pathlib

import ml_collections

from aim.evaluation.results import Result, write_csv
from aim.evaluation.scored_model import ScoredModel, record
from aim.report.workdir import RESULTS, Workdir
from data_pipelines.errors import SchemaError

MODEL = ScoredModel("LSM-2", 6, "0" * 32)
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

  return Workdir(path, ml_collections.ConfigDict({"name": name, "evaluate": {"batch_size": 8}}), nothing)


def write_scores(path: pathlib.Path, kind: str, rows: list[Result], model: ScoredModel = MODEL) -> None:
  """Writes results of one kind into a workdir, as its mode would for a model."""
  file, mode = RESULTS[kind]
  write_csv(path / file, rows)
  record(path, mode, model)
