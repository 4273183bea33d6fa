"""Scores against a naive reference, their intervals, files and errors."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.evaluation.difference import Outcome
from aim.evaluation.generative import score_files, scores
from aim.evaluation.generative.scores import ScoreRow, Scores
from aim.evaluation.generative.tasks import GenerativeTask

GAP = GenerativeTask("interpolation", 60)
CHANNELS = ("heart", "steps", "never")


def random_batch(seed: int, people: int = 6, days: int = 20):
  """participants [D], truth and target [D, S, 3]; "never" is never scored, "steps" only on some people."""
  rng = np.random.default_rng(seed)
  participants = [f"p{i}" for i in rng.integers(0, people, days)]
  truth = rng.normal(size=(days, 12, 3)).astype(np.float32)
  target = rng.random(truth.shape) < 0.4
  target[..., 2] = False
  target[[name in ("p0", "p1", "p2") for name in participants], :, 1] = False
  truth[~target & (rng.random(truth.shape) < 0.5)] = np.nan
  return participants, truth, target


def predictions(truth: np.ndarray, seed: int) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed + 1)
  clean = np.nan_to_num(truth)
  return {
    "AIM": (clean + 0.5 * rng.normal(size=truth.shape)).astype(np.float32),
    "linear": (clean + 0.8 * rng.normal(size=truth.shape)).astype(np.float32),
  }


def scored(seed: int, people: int = 6, days: int = 20, tasks=(GAP,)) -> Scores:
  table = Scores(CHANNELS)
  for i, task in enumerate(tasks):
    participants, truth, target = random_batch(seed + i, people, days)
    for method, prediction in predictions(truth, seed + i).items():
      table.add(task, method, participants, prediction, truth, target)
  return table


def naive_mse(cells: list[tuple[int, float]]) -> dict[int, float]:
  """Mean squared error per channel of cells (channel, error), and their mean at key -1."""
  channels = sorted({channel for channel, _ in cells})
  mse = {c: float(np.mean([error**2 for channel, error in cells if channel == c])) for c in channels}
  return mse | {-1: float(np.mean(list(mse.values())))} if mse else {}


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), people=st.integers(2, 8))
def test_table_equals_naive_bootstrap(seed, people):
  participants, truth, target = random_batch(seed, people)
  cells = {"AIM": {}, "linear": {}}
  for method, prediction in predictions(truth, seed).items():
    for d, s, c in np.argwhere(target):
      error = float(prediction[d, s, c]) - float(truth[d, s, c])
      cells[method].setdefault(participants[d], []).append((c, error))
  names = sorted(cells["AIM"])
  # The draws of the implementation, person by person.
  drawn = np.random.default_rng(5).multinomial(len(names), np.full(len(names), 1 / len(names)), 40)
  samples = {}
  rows = {(row.method, row.channel): row for row in scored(seed, people).table(n_bootstrap=40, seed=5)}
  assert len(rows) == 8
  for method, of_people in cells.items():
    point = naive_mse([cell for name in names for cell in of_people[name]])
    samples[method] = [
      naive_mse([cell for name, times in zip(names, draw, strict=True) for cell in of_people[name] * int(times)])
      for draw in drawn
    ]
    for c, channel in ((-1, "all"), (0, "heart"), (1, "steps")):
      row = rows[method, channel]
      if c not in point:
        assert row.n == 0 and math.isnan(row.mse)
        continue
      errors = [error for name in names for channel, error in of_people[name] if c in (-1, channel)]
      assert row.n == len(errors)
      assert row.mse == pytest.approx(point[c], rel=1e-9)
      having = [name for name in names if any(c in (-1, channel) for channel, _ in of_people[name])]
      low_high = np.percentile([sample[c] for sample in samples[method] if c in sample], [2.5, 97.5])
      expected = low_high if len(having) > 1 else [math.nan, math.nan]
      np.testing.assert_allclose([row.ci_low, row.ci_high], expected, rtol=1e-9)
      if c >= 0:
        assert row.mae == pytest.approx(np.mean(np.abs(errors)), rel=1e-9)
    known = [rows[method, channel].mae for channel in ("heart", "steps") if rows[method, channel].n]
    assert rows[method, "all"].mae == pytest.approx(np.mean(known))
  (difference,) = scored(seed, people).differences("AIM", "linear", n_bootstrap=40, seed=5).values()
  ratios = [100 * (a[-1] / b[-1] - 1) for a, b in zip(samples["AIM"], samples["linear"], strict=True)]
  assert difference.value == pytest.approx(100 * (rows["AIM", "all"].mse / rows["linear", "all"].mse - 1))
  if len(names) > 1:
    np.testing.assert_allclose([difference.ci_low, difference.ci_high], np.percentile(ratios, [2.5, 97.5]), rtol=1e-9)


def test_batches_pool_exactly():
  participants, truth, target = random_batch(3)
  prediction = predictions(truth, 3)["AIM"]
  whole, parts = Scores(CHANNELS), Scores(CHANNELS)
  whole.add(GAP, "AIM", participants, prediction, truth, target)
  for rows in (slice(0, 7), slice(7, None)):
    parts.add(GAP, "AIM", participants[rows], prediction[rows], truth[rows], target[rows])
  for a, b in zip(whole.table(50), parts.table(50), strict=True):
    np.testing.assert_allclose([a.n, a.mse, a.mae, a.ci_low], [b.n, b.mse, b.mae, b.ci_low], rtol=1e-12)


def test_intervals_cover_and_shrink_with_people():
  width = [row.ci_high - row.ci_low for n in (5, 80) for row in scored(1, n, 10 * n).table()[:1]]
  assert width[1] < width[0] / 2
  for row in scored(1, 80, 800).table():
    assert row.n == 0 or row.ci_low < row.mse < row.ci_high


def test_difference_is_paired():
  """People differ far more than methods: paired intervals stay narrow where the separate ones overlap."""
  table = Scores(["x"])
  rng = np.random.default_rng(0)
  for p in range(12):
    truth = np.zeros((1, 200, 1), np.float32)
    noise = rng.normal(size=truth.shape) * (1 + p)
    target = np.ones(truth.shape, bool)
    table.add(GAP, "AIM", [f"p{p}"], 0.9 * noise, truth, target)
    table.add(GAP, "linear", [f"p{p}"], noise, truth, target)
  (difference,) = table.differences("AIM", "linear").values()
  assert [difference.value, difference.ci_low, difference.ci_high] == pytest.approx([-19, -19, -19])
  assert difference.verdict == "better, -19 % [-19, -19]"
  aim, linear = (row for row in table.table() if row.channel == "all")
  assert aim.ci_high > linear.ci_low


def test_one_person_has_no_interval(tmp_path):
  table = scored(2, people=1)
  rows = table.table()
  assert all(math.isnan(row.ci_low) and math.isnan(row.ci_high) for row in rows)
  assert {d.outcome for d in table.differences("AIM", "linear").values()} == {Outcome.NO_INTERVAL}
  score_files.write_channels(tmp_path / "channels.csv", rows)
  with (tmp_path / "channels.csv").open(newline="") as file:
    first = next(csv.DictReader(file))
  assert first["ci_low"] == first["ci_high"] == "" and float(first["mse"]) > 0


def test_people_without_cells_do_not_count():
  table, zeros = scored(2), np.zeros((2, 12, 3), np.float32)
  rows = table.table(30)
  for method in table.methods:
    table.add(GAP, method, ["a1", "z9"], zeros, zeros, zeros > 0)
  assert repr(table.table(30)) == repr(rows)


def test_no_targets_at_all_is_empty_not_an_error():
  table = Scores(CHANNELS)
  zeros = np.zeros((1, 4, 3), np.float32)
  table.add(GAP, "AIM", ["p"], zeros, zeros, zeros > 0)
  assert all(row.n == 0 and math.isnan(row.mse) for row in table.table(10))
  assert "-" in score_files.format_table(table.table(10))


def test_csv_has_exactly_the_columns(tmp_path):
  rows = scored(4).table(20)
  score_files.write_channels(tmp_path / "channels.csv", rows)
  lines = (tmp_path / "channels.csv").read_text().splitlines()
  assert lines[0] == (
    "task,level,method,channel,n,mse,mae,ci_low,ci_high,rmse,mre,unit_mse,unit_mae,unit_rmse,unit_mre"
  )
  assert lines[1].startswith("interpolation,60,AIM,all,") and len(lines) == 1 + 2 * 4
  assert lines[4] == "interpolation,60,AIM,never,0" + 10 * ","


def test_people_round_trip_exactly_and_pool(tmp_path):
  tasks = (GAP, GenerativeTask("sensor", 2))
  table = scored(6, tasks=tasks)
  path = tmp_path / "people.csv"
  score_files.save_people(table, path)
  assert (
    path.read_text().splitlines()[0] == "task,level,method,channel,participant,n,sse,sae,sat,unit_sse,unit_sae,unit_sat"
  )
  loaded = score_files.load_people(path)
  assert repr(loaded.table(30)) == repr(table.table(30))  # repr: NaN equals NaN
  with pytest.raises(ValueError, match="participant 'p0' appears twice for AIM, interpolation 60 min"):
    scores.merge([table, loaded])

  folds = []
  for part in (("p0", "p3", "p4"), ("p1", "p2", "p5")):
    fold = Scores(CHANNELS)
    for i, task in enumerate(tasks):
      participants, truth, target = random_batch(6 + i)
      mine = np.array([name in part for name in participants])
      for method, prediction in predictions(truth, 6 + i).items():
        names = [name for name in participants if name in part]
        fold.add(task, method, names, prediction[mine], truth[mine], target[mine])
    folds.append(fold)
  assert repr(scores.merge(folds).table(30)) == repr(table.table(30))
  with pytest.raises(ValueError, match="cannot merge channels"):
    scores.merge([table, Scores(["x"])])
  with pytest.raises(ValueError, match="nothing to merge"):
    scores.merge([])


LINE = "interpolation,60,AIM,heart,p0,5,1.5,2.5,3,4,5,6\n"
HEADER = ",".join(score_files.PEOPLE_COLUMNS) + "\n"


@pytest.mark.parametrize(
  "text, expected",
  [
    ("", "columns are None"),
    ("\udcff", "not UTF-8 text"),
    ("a,b\n", r"columns are \['a', 'b'\]"),
    (HEADER, "no rows"),
    (HEADER + "interpolation,60\n", "line 2: 2 cells, expected 12"),
    (HEADER + LINE.replace("1.5", "x"), "line 2: could not convert"),
    (HEADER + LINE.replace("1.5", "nan"), "line 2: n, sse, sae, sat, unit_sse, unit_sae, unit_sat are"),
    (HEADER + LINE.replace("interpolation", "interpol"), "line 2: task: name is 'interpol'"),
    (HEADER + LINE + LINE, "line 3: channel 'heart' of participant 'p0' appears twice"),
    (HEADER + LINE + LINE.replace("heart", "steps") + LINE.replace("p0", "p1"), "'p1' has no channel 'steps'"),
  ],
)
def test_bad_people_file_is_one_line(tmp_path, text, expected):
  path = tmp_path / "people.csv"
  path.write_text(text, errors="surrogateescape")
  with pytest.raises(ValueError, match=expected) as error:
    score_files.load_people(path)
  assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_people_file(tmp_path):
  with pytest.raises(ValueError, match="no such file"):
    score_files.load_people(tmp_path / "none.csv")


def test_bad_input_names_the_place():
  participants, truth, target = random_batch(0)
  prediction = predictions(truth, 0)["AIM"]
  with pytest.raises(ValueError, match="expected all"):
    Scores(CHANNELS).add(GAP, "AIM", participants, prediction[:, :5], truth, target)
  with pytest.raises(ValueError, match="target bool"):
    Scores(CHANNELS).add(GAP, "AIM", participants, prediction, truth, target.astype(float))
  day, step, channel = np.argwhere(target)[7]
  prediction[day, step, channel] = np.nan
  with pytest.raises(ValueError, match=f"row {day}, step {step}, channel '{CHANNELS[channel]}': prediction nan"):
    Scores(CHANNELS).add(GAP, "AIM", participants, prediction, truth, target)
  for channels in ((), ("a", "a"), ("all", "b")):
    with pytest.raises(ValueError, match="expected different names"):
      Scores(channels)
  with pytest.raises(ValueError, match="no method 'KNN'; methods are AIM, linear"):
    scored(0).differences("KNN", "linear")


def test_not_finite_outside_the_targets_is_ignored():
  participants, truth, target = random_batch(0)
  prediction = predictions(truth, 0)["AIM"]
  prediction[~target] = np.nan
  table = Scores(CHANNELS)
  table.add(GAP, "AIM", participants, prediction, truth, target)
  assert repr(table.table(10)) == repr([row for row in scored(0).table(10) if row.method == "AIM"])


def test_methods_on_different_cells_are_refused():
  table = scored(0)
  participants, truth, target = random_batch(0)
  target[0] = False
  table.add(GAP, "nearest", participants, np.nan_to_num(truth), truth, target)
  for read in (table.table, lambda: table.differences("nearest", "AIM")):
    with pytest.raises(ValueError, match="were scored on different cells: participant"):
      read()


def test_table_for_a_terminal():
  rows = [
    ScoreRow("interpolation", 180, "AIM", "all", 9, 0.5236, 0.4, 0.48, 0.571),
    ScoreRow("interpolation", 180, "AIM", "heart", 9, 9.0, 0.4, 0.48, 0.57),
    ScoreRow("interpolation", 180, "linear", "all", 9, 0.66, 0.4, math.nan, math.nan),
    ScoreRow("sensor", 2, "linear", "all", 0, math.nan, math.nan, math.nan, math.nan),
  ]
  assert score_files.format_table(rows) == "\n".join([
    "| mse                   | AIM                  | linear |",
    "| --------------------- | -------------------- | ------ |",
    "| interpolation 180 min | 0.524 [0.48, 0.57] * | 0.660  |",
    "| sensor 2 channels     |                      | -      |",
  ])  # fmt: skip
  assert "[" not in score_files.format_table(rows, intervals=False)
