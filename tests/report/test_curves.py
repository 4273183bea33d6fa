"""Charts of results: many rows, many models, levels in order."""

import json
import math

import ml_collections

from aim.evaluation.results import Result
from aim.report import curves
from aim.report.workdir import Workdir
from data_pipelines.page import chart


def test_many_rows_and_models_are_drawn_whole():
  """Twenty settings of robustness take two charts; a learning curve takes one, with its levels in order."""
  row = lambda level, model: Result("d", "age", level, model, "mae", 9.0, math.nan, math.nan, 9, 0)
  with chart.style():
    dots = curves.charts([row(f"without {'x' * i}", f"m{m}") for i in range(20) for m in range(10)], "robustness")
    [curve] = curves.charts([row(f"{i} % of labels", "m") for i in (100, 5, 10)], "finetune")
  assert sorted(len(dot_chart.rows) for dot_chart in dots) == [60, 140]
  assert [text.get_text() for text in curve.figure.axes[0].get_xticklabels()] == ["5", "10", "100"]


def test_a_learning_curve_counts_the_people_whose_labels_were_seen():
  known, unknown = (
    Result("d", "age", f"{percent} % of labels", "LSM-2", "mae", 9.0, 8.0, 10.0, 9, 0, n_labelled_people=count)
    for percent, count in ((10, 12), (100, None))
  )
  with chart.style():
    [curve] = curves.charts([known, unknown], "finetune")
  assert curve.columns[-1] == "people whose labels were seen"
  assert [line[-1] for line in curve.rows] == [12, ""]


def test_the_held_out_loss_stands_below_the_training_loss(tmp_path):
  """Its lines are not those of the training loss, and a run without them has no such chart."""
  lines = [{"step": step, "loss": 2.0 - 0.1 * step} for step in range(1, 5)]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  titles = lambda: [block.title for block in training().blocks if isinstance(block, chart.Chart)]
  config = ml_collections.ConfigDict({"name": "LSM-2"})
  training = lambda: curves.training([Workdir(tmp_path, config, lambda config: None)])
  with chart.style():
    assert titles() == ["Training loss"]
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 2, "heldout_loss": 1.9}\n{"step": 4, "heldout_loss": 1.8}\n')
    assert titles() == ["Training loss", "The same on people of the split tune, who are not trained on"]
    drawn = training().blocks[1]
  assert drawn.rows == [["LSM-2", 2, "1.9"], ["LSM-2", 4, "1.8"]]
