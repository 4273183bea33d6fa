"""Charts of results: many rows, many models, levels in order."""

import math

from aim.evaluation.results import Result
from aim.report import curves
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
