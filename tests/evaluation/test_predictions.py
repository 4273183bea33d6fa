"""Predictions as files, pooled over folds and scored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aim.evaluation import predictions, results
from aim.evaluation.difference import Outcome
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
  pooled = predictions.pool(paths, "both", 10)
  scores = {(r.model, r.metric): r for r in pooled}
  # Pairs of a person with the label and one without: four in the first fold, two in the second.
  within = np.average([roc_auc_score(p.truth, p.predicted[:, 1]) for p in parts], weights=[4, 2])
  assert scores["LSM-2", "auroc"].value == pytest.approx(within, abs=1e-6)
  assert scores["LSM-2", "auroc"].n_people == 7
  assert scores["LSM-2", "auroc"].n_folds == 2
  assert scores["LSM-2", "auroc"].dataset == "both"
  assert scores["LSM-2", "auroc vs mask-only"].value == pytest.approx(2 * within - 1, abs=1e-6)
  answers = np.concatenate([p.predicted.argmax(1) == p.truth for p in parts])
  assert scores["LSM-2", "accuracy"].value == pytest.approx(answers.mean()), "answers are counted over all folds"
  assert "2 folds, each predicted by a model of its own: auroc, auprc" in predictions.format_tables(pooled)
  [single] = {r.n_folds for r in predictions.score(predictions.read_csv(paths[0]), 10)}
  assert single == 1


def test_folds_are_paired_in_whatever_order_the_files_come(tmp_path):
  parts = [predicted("f0", ["a", "b", "c", "d"]), predicted("fold1", ["e", "f", "g"])]
  for path, model, part in ((f"{m}{i}.csv", m, p) for m in "xy" for i, p in enumerate(parts)):
    predictions.write_csv(tmp_path / path, [dataclasses.replace(part, model=model)])
  paths = [tmp_path / name for name in ("x0.csv", "x1.csv", "y1.csv", "y0.csv")]
  scores = {(r.model, r.metric): r for r in predictions.pool(paths, "both", 10, against=["y"])}
  assert scores["x", "auroc"].value == scores["y", "auroc"].value
  assert scores["x", "auroc vs y"].value == 0


def test_a_constant_is_worth_nothing_and_whoever_is_level_with_it_beats_nobody(tmp_path):
  """A constant scores 0.5 though its folds pool to an AUROC below that, and luck ranks no model that knows nothing."""
  rng, paths = np.random.default_rng(1), []
  for fold in range(5):
    people = [f"{fold}-{i}" for i in range(8)]
    base = predicted(f"f{fold}", people)
    truth = (rng.random(8) < 0.5).astype(float)
    share = 0.5 - 0.2 * (truth.mean() - 0.5)  # the more people are ill in a fold, the fewer are in its training set
    shares = {"constant": np.full(8, share), "knows": 0.2 * fold + truth + 0.5 * rng.random(8)}
    shares |= {"luck": rng.random(8), "mask-only": rng.random(8)}
    both = [
      dataclasses.replace(base, model=m, truth=truth, predicted=np.stack([1 - s, s], 1)) for m, s in shares.items()
    ]
    paths.append(tmp_path / f"{fold}.csv")
    predictions.write_csv(paths[-1], both)
  scores = predictions.pool(paths, "five", 200)
  by_name = {(r.model, r.metric): r for r in scores}
  assert by_name["constant", "auroc"].value == 0.5 == by_name["constant", "balanced_accuracy"].value
  assert by_name["knows", "auroc"].value == 1
  assert by_name["knows", "auroc vs mask-only"].difference.outcome == Outcome.BETTER
  assert by_name["luck", "auroc vs mask-only"].difference.outcome == Outcome.NEITHER
  assert by_name["mask-only", "auroc vs constant"].difference.outcome in (Outcome.CHANCE, Outcome.WORSE)
  results.write_csv(tmp_path / "results.csv", scores)
  read = {(r.model, r.metric): r for r in results.read_csv(tmp_path / "results.csv")}
  assert read["luck", "auroc vs mask-only"].difference.outcome == Outcome.NEITHER
  lines = predictions.verdicts([r for r in scores if r.model != "knows"])
  assert any("against mask-only: neither beats a constant, " in line for line in lines)
  assert lines[-1].startswith("five: ill, day, auroc: no model is beyond chance of a constant")
  assert not any("no model is beyond" in line for line in predictions.verdicts(scores))


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
