"""Sections on results: verdicts, charts and tables, of one workdir and of several."""

from aim.evaluation.results import WHOLE_DAYS, Result, write_csv
from aim.report import tables
from aim.report.workdir import merged_results, set_labels
from data_pipelines.page.blocks import Table, TextLine
from tests.report.made_up import HOSTILE, made_up, workdir_of, write_scores


def test_two_workdirs_side_by_side(tmp_path):
  for folder, better in (("a", 0.1), ("b", 0.2)):
    write_scores(tmp_path / folder, "generative", made_up("generative", "LSM-2", better))
  both = [workdir_of(tmp_path / "a"), workdir_of(tmp_path / "b")]
  set_labels(both)
  results = merged_results(both, "generative")
  models = ["LSM-2 (a)", "LSM-2 (b)", "linear", HOSTILE]
  assert list(dict.fromkeys(result.model for result in results)) == models
  section = tables.section(both, "generative")
  table = next(block for block in section.blocks if isinstance(block, Table))
  assert table.columns == ["task", "level", "verdict", *models]
  assert [field.text for field in table.rows[1][3:5]] == ["0.4 [0.38, 0.42]", "0.3 [0.28, 0.32]"]
  assert table.rows[1][2] == TextLine("LSM-2 (a) against linear interpolation: better, -20 % [-25, -15]", "yes")
  [drawn] = section.charts
  assert [text.get_text() for text in drawn.figure.legends[0].get_texts()] == models
  assert len(drawn.rows) == 8  # two levels of two models and of two baselines, which both workdirs have


def test_without_a_paired_difference_the_best_is_named_with_its_overlaps():
  row = lambda model, value: Result("d", "t", "", model, "mse", value, value - 0.1, value + 0.1, 9, 0)
  ranked = [row("a", 0.1), row("b", 0.2), row("c", 0.9)]
  assert tables.overlap(ranked) == "best: a; its interval overlaps with b"
  assert tables.overlap([ranked[0], ranked[2]]) == "best: a; its interval overlaps with no other"


def test_a_channel_that_is_worse_than_the_line_is_named_beside_the_means(tmp_path):
  worse = Result(
    *("d", "interpolation", "30 min, glucose", "LSM-2", "mse vs linear %", 58.0, 40.0, 70.0, 9, 0),
    compared_with="linear",
  )
  write_csv(tmp_path / "evaluate" / "against_linear.csv", [worse])
  write_scores(tmp_path, "generative", made_up("generative", "LSM-2", 0.2))
  notes = [
    block.text for block in tables.section([workdir_of(tmp_path)], "generative").blocks if "channel by" in str(block)
  ]
  assert notes == [
    "d, channel by channel, LSM-2 against linear interpolation: of 1 comparison worse in 1; worse: glucose: "
    "interpolation 30 min +58 % [+40, +70]"
  ]


def test_scored_people_who_were_trained_on_are_told(tmp_path):
  row = Result("d", "random", "80 %", "LSM-2", "mse", 0.5, 0.4, 0.6, 7, 0, seen_in_training="2 of 7")
  write_scores(tmp_path, "generative", [row])
  texts = [b.text for b in tables.section([workdir_of(tmp_path)], "generative").blocks if isinstance(b, TextLine)]
  assert "note: LSM-2 on d: 2 of 7 people scored were trained on (by their ids)" in texts


def test_one_metric_of_each_row_is_drawn_and_judged(tmp_path):
  row = lambda task, model, metric, value: Result(
    *("d", task, "day", model, metric, value, value - 1, value + 1, 9, 0),
    compared_with="sex" if " vs " in metric else WHOLE_DAYS if " drop" in metric else "",
  )
  rows = [row("age", model, metric, 9.0) for model in ("LSM-2", "sex") for metric in ("rmse", "mae", "mae vs sex")]
  rows += [
    row("sick", model, metric, 3.0)
    for model in ("LSM-2", "sex")
    for metric in ("f1", "auroc", "auroc vs sex", "f1 vs sex")
  ]
  rows += [row("age without PPG", "LSM-2", metric, 2.0) for metric in ("mae", "mae drop", "mae drop %")]
  headlines = tables.headline_metrics(rows)
  assert [headlines["d", task, "day"] for task in ("age", "sick", "age without PPG")] == ["mae", "auroc", "mae drop %"]
  write_scores(tmp_path, "probe", rows)
  section = tables.section([workdir_of(tmp_path)], "probe")
  assert [drawn.title for drawn in section.charts] == ["age: mae", "sick: auroc", "age without PPG: mae drop %"]
  shown = [block.text for block in section.blocks if isinstance(block, TextLine) and block.tone]
  assert shown == [
    "LSM-2 against sex (age, day, mae): worse, +9 [+8, +10]",
    "LSM-2 against sex (sick, day, auroc): better, +3 [+2, +4]",
  ]
  assert {block.title for block in section.blocks if isinstance(block, Table) and not block.folded} >= {
    "mae on d (lower is better)",
    "auroc on d (higher is better)",
  }
