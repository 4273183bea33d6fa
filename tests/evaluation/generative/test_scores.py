"""Scores and their intervals against a naive reference, and errors that name the place."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim.evaluation.difference import Outcome
from aim.evaluation.generative.scores import Scores
from aim.evaluation.generative.tasks import GenerativeTask

GAP = GenerativeTask("interpolation", 60)
CHANNELS = ("heart", "steps", "never")


def random_batch(seed: int, people: int = 6, days: int = 20):
  """Participants [D], truth and scored [D, S, 3]; "never" is never scored, "steps" only for some people."""
  rng = np.random.default_rng(seed)
  participants = [f"p{i}" for i in rng.integers(0, people, days)]
  truth = rng.normal(size=(days, 12, 3)).astype(np.float32)
  scored_at = rng.random(truth.shape) < 0.4
  scored_at[..., 2] = False
  scored_at[[name in ("p0", "p1", "p2") for name in participants], :, 1] = False
  truth[~scored_at & (rng.random(truth.shape) < 0.5)] = np.nan
  return participants, truth, scored_at


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
    participants, truth, scored_at = random_batch(seed + i, people, days)
    for method, prediction in predictions(truth, seed + i).items():
      table.add(task, method, participants, prediction, truth, scored_at)
  return table


def naive_mse(errors: list[tuple[int, float]]) -> dict[int, float]:
  """Mean squared error per channel of errors (channel, error), and their mean at key -1."""
  channels = sorted({channel for channel, _ in errors})
  mse = {c: float(np.mean([error**2 for channel, error in errors if channel == c])) for c in channels}
  return mse | {-1: float(np.mean(list(mse.values())))} if mse else {}


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), people=st.integers(2, 8))
def test_table_equals_naive_bootstrap(seed, people):
  participants, truth, scored_at = random_batch(seed, people)
  errors_of = {"AIM": {}, "linear": {}}
  for method, prediction in predictions(truth, seed).items():
    for d, s, c in np.argwhere(scored_at):
      error = float(prediction[d, s, c]) - float(truth[d, s, c])
      errors_of[method].setdefault(participants[d], []).append((c, error))
  names = sorted(errors_of["AIM"])
  # The draws of the implementation, person by person.
  drawn = np.random.default_rng(5).multinomial(len(names), np.full(len(names), 1 / len(names)), 40)
  samples = {}
  rows = {(row.method, row.channel): row for row in scored(seed, people).table(n_bootstrap=40, seed=5)}
  assert len(rows) == 8
  for method, of_people in errors_of.items():
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
  participants, truth, scored_at = random_batch(3)
  prediction = predictions(truth, 3)["AIM"]
  whole, parts = Scores(CHANNELS), Scores(CHANNELS)
  whole.add(GAP, "AIM", participants, prediction, truth, scored_at)
  for rows in (slice(0, 7), slice(7, None)):
    parts.add(GAP, "AIM", participants[rows], prediction[rows], truth[rows], scored_at[rows])
  for a, b in zip(whole.table(50), parts.table(50), strict=True):
    np.testing.assert_allclose([a.n, a.mse, a.mae, a.ci_low], [b.n, b.mse, b.mae, b.ci_low], rtol=1e-12)


def test_intervals_cover_and_shrink_with_people():
  width = [row.ci_high - row.ci_low for n in (5, 80) for row in scored(1, n, 10 * n).table()[:1]]
  assert width[1] < width[0] / 2
  for row in scored(1, 80, 800).table():
    assert row.n == 0 or row.ci_low < row.mse < row.ci_high


def test_difference_is_paired():
  """People differ far more than methods do, so paired intervals stay narrow where the separate ones overlap."""
  table = Scores(["x"])
  rng = np.random.default_rng(0)
  for p in range(12):
    truth = np.zeros((1, 200, 1), np.float32)
    noise = rng.normal(size=truth.shape) * (1 + p)
    scored_at = np.ones(truth.shape, bool)
    table.add(GAP, "AIM", [f"p{p}"], 0.9 * noise, truth, scored_at)
    table.add(GAP, "linear", [f"p{p}"], noise, truth, scored_at)
  (difference,) = table.differences("AIM", "linear").values()
  assert [difference.value, difference.ci_low, difference.ci_high] == pytest.approx([-19, -19, -19])
  assert difference.verdict == "better, -19 % [-19, -19]"
  aim, linear = (row for row in table.table() if row.channel == "all")
  assert aim.ci_high > linear.ci_low


@pytest.mark.parametrize(("share", "outcome"), [(1e-8, Outcome.CHANCE), (1e-3, Outcome.WORSE)])
def test_no_verdict_follows_from_rounding(share, outcome):
  """LSM-1 returns the line of linear interpolation in some gaps, computed in another order."""
  table, rng = Scores(["x"]), np.random.default_rng(0)
  scored_at = np.ones((1, 50, 1), bool)
  for p in range(12):
    truth = rng.normal(size=scored_at.shape)
    table.add(GAP, "linear", [f"p{p}"], 0 * truth, truth, scored_at)
    table.add(GAP, "LSM-1", [f"p{p}"], -share * truth, truth, scored_at)
  (difference,) = table.differences("LSM-1", "linear").values()
  assert difference.outcome is outcome
  assert (difference.value == 0) == (outcome is Outcome.CHANCE)


def test_one_person_has_no_interval():
  table = scored(2, people=1)
  rows = table.table()
  assert all(math.isnan(row.ci_low) and math.isnan(row.ci_high) for row in rows)
  assert {d.outcome for d in table.differences("AIM", "linear").values()} == {Outcome.UNTOLD}


def test_people_without_scored_values_do_not_count():
  table, zeros = scored(2), np.zeros((2, 12, 3), np.float32)
  rows = table.table(30)
  for method in table.methods:
    table.add(GAP, method, ["a1", "z9"], zeros, zeros, zeros > 0)
  assert repr(table.table(30)) == repr(rows)


def test_nothing_scored_is_empty_and_no_error():
  table = Scores(CHANNELS)
  zeros = np.zeros((1, 4, 3), np.float32)
  table.add(GAP, "AIM", ["p"], zeros, zeros, zeros > 0)
  assert all(row.n == 0 and math.isnan(row.mse) for row in table.table(10))


def test_bad_input_names_the_place():
  participants, truth, scored_at = random_batch(0)
  prediction = predictions(truth, 0)["AIM"]
  with pytest.raises(ValueError, match="expected all"):
    Scores(CHANNELS).add(GAP, "AIM", participants, prediction[:, :5], truth, scored_at)
  with pytest.raises(ValueError, match="scored bool"):
    Scores(CHANNELS).add(GAP, "AIM", participants, prediction, truth, scored_at.astype(float))
  day, step, channel = np.argwhere(scored_at)[7]
  prediction[day, step, channel] = np.nan
  with pytest.raises(ValueError, match=f"row {day}, step {step}, channel '{CHANNELS[channel]}': prediction nan"):
    Scores(CHANNELS).add(GAP, "AIM", participants, prediction, truth, scored_at)
  for channels in ((), ("a", "a"), ("all", "b")):
    with pytest.raises(ValueError, match="expected different names"):
      Scores(channels)
  with pytest.raises(ValueError, match="no method 'KNN'; methods are AIM, linear"):
    scored(0).differences("KNN", "linear")


def test_values_that_are_not_scored_may_be_nan():
  participants, truth, scored_at = random_batch(0)
  prediction = predictions(truth, 0)["AIM"]
  prediction[~scored_at] = np.nan
  table = Scores(CHANNELS)
  table.add(GAP, "AIM", participants, prediction, truth, scored_at)
  assert repr(table.table(10)) == repr([row for row in scored(0).table(10) if row.method == "AIM"])


def test_methods_scored_on_different_values_are_refused():
  table = scored(0)
  participants, truth, scored_at = random_batch(0)
  scored_at[0] = False
  table.add(GAP, "nearest", participants, np.nan_to_num(truth), truth, scored_at)
  for read in (table.table, lambda: table.differences("nearest", "AIM")):
    with pytest.raises(ValueError, match="were scored on different values: participant"):
      read()
