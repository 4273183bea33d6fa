"""Predictions as files, pooled over folds and scored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aim.evaluation import predictions, results
from aim.evaluation.predictions import Predictions


def predicted(
  dataset: str, people: list[str], model: str = "LSM-2", seed: int = 0, classes=("no", "yes")
) -> Predictions:
  rng = np.random.default_rng(len(dataset) + len(model))
  n = len(people)
  share = rng.random(n)
  truth = (np.arange(n) % 2).astype(float)
  place = (np.array(people), np.zeros(n, int), np.full(n, ""), np.zeros(n, int), np.full(n, 24))
  probabilities = np.stack([1 - share, share], 1)
  return Predictions(dataset, "ill", "day", "binary", classes, model, seed, *place, truth, probabilities)


def test_folds_are_pooled_over_people(tmp_path):
  parts = [predicted("f0", ["a", "b", "c", "d"]), predicted("fold1", ["e", "f", "g"])]
  paths = [tmp_path / "0.csv", tmp_path / "1.csv"]
  for path, part in zip(paths, parts, strict=True):
    predictions.write_csv(path, [part, dataclasses.replace(part, model="mask-only", predicted=part.predicted[:, ::-1])])
  scores = {(r.model, r.metric): r for r in predictions.pool(paths, "both", 10)}
  truth = np.concatenate([p.truth for p in parts])
  positive = np.concatenate([p.predicted[:, 1] for p in parts])
  assert scores["LSM-2", "auroc"].value == pytest.approx(roc_auc_score(truth, positive), abs=1e-6)
  assert scores["LSM-2", "auroc"].n_people == 7
  assert scores["LSM-2", "auroc"].dataset == "both"
  assert scores["LSM-2", "auroc vs mask-only"].value == pytest.approx(2 * roc_auc_score(truth, positive) - 1, abs=1e-6)


def test_labelled_people_are_counted_where_known(tmp_path):
  """Each of the pooled folds trains a model of its own; the largest count stands for all."""
  parts = [predicted("f0", ["a", "b"]), predicted("fold1", ["c", "d"])]
  for name, part, count in zip(("0.csv", "1.csv"), parts, (12, 14), strict=True):
    predictions.write_csv(tmp_path / name, [dataclasses.replace(part, n_labelled_people=count)])
  assert predictions.read_csv(tmp_path / "0.csv")[0].n_labelled_people == 12
  pooled = predictions.pool([tmp_path / "0.csv", tmp_path / "1.csv"], "both", 10)
  assert {r.n_labelled_people for r in pooled} == {14}
  assert predictions.format_tables(pooled).startswith("ill, day (4 people, labels of 14 seen)")
  with_count = (tmp_path / "0.csv").read_text().splitlines()
  (tmp_path / "old.csv").write_text("".join(line.rpartition(",")[0] + "\n" for line in with_count))
  assert predictions.read_csv(tmp_path / "old.csv")[0].n_labelled_people is None


def test_folds_that_share_a_person_are_refused(tmp_path):
  for name, people in (("f0", ["a", "b"]), ("f1", ["b", "c"])):
    predictions.write_csv(tmp_path / name, [predicted(name, people)])
  with pytest.raises(results.ResultsError, match="'b' is held out in two folds"):
    predictions.pool([tmp_path / "f0", tmp_path / "f1"], "both")


def test_models_that_answer_other_rows_are_refused():
  parts = [predicted("f", ["a", "b"]), predicted("f", ["a", "c"], model="SimCLR")]
  with pytest.raises(results.ResultsError, match="predict different rows"):
    predictions.score(parts)


@pytest.mark.parametrize(
  ("text", "message"), [("a,b\n", "columns are a,b"), (",".join(predictions.COLUMNS) + "\n1,2\n", "line 2: 2")]
)
def test_another_file_is_no_predictions(tmp_path, text, message):
  (tmp_path / "p.csv").write_text(text)
  with pytest.raises(results.ResultsError, match=message):
    predictions.read_csv(tmp_path / "p.csv")
