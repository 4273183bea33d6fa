"""Wear time, checked against plain loops that follow the published rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.ingest.gridding.recipe import Recipe, WearRule
from data_pipelines.ingest.gridding.wear_time import worn_steps
from data_pipelines.ingest.reading.signals import Signal

HEART = Signal("heart_rate", "bpm")
COUNTS = Signal("activity_counts", "counts", rule="sum")
FLAG = Signal("on_wrist", kind="binary", rule="last")


def troiano(counts, run=60):
  """True where the device was not worn: runs from a zero to a count above 100, a third count in a row, or a gap."""
  off = [False] * len(counts)
  start, spike = None, 0
  for m, count in enumerate([*counts, np.nan]):
    if start is not None and (np.isnan(count) or count > 100 or (count > 0 and spike == 2)):
      if m - spike - start >= run:
        off[start : m - spike] = [True] * (m - spike - start)
      start, spike = None, 0
    elif start is not None:
      spike = spike + 1 if count > 0 else 0
    if start is None and count == 0:
      start, spike = m, 0
  return off


def choi(counts):
  """True where the device was not worn: 90 minutes of zeros, ignoring 1 or 2 minutes of counts between 30 zeros."""
  plain = list(counts)
  for m in range(len(counts)):
    for length in (1, 2):
      inside, around = counts[m : m + length], [*counts[max(m - 30, 0) : m], *counts[m + length : m + length + 30]]
      if len(inside) == length and all(c > 0 for c in inside) and len(around) == 60 and all(c == 0 for c in around):
        plain[m : m + length] = [0] * length
  off, start = [False] * len(counts), 0
  for m, count in enumerate([*plain, 1]):
    if count != 0:
      if m - start >= 90:
        off[start:m] = [True] * (m - start)
      start = m + 1
  return off


LENGTHS = st.sampled_from([1, 2, 3, 10, 29, 30, 31, 57, 59, 60, 61, 88, 90, 91, 200])
ZEROS = st.tuples(st.sampled_from([0, 0, 0, np.nan]), LENGTHS)
SPIKES = st.tuples(st.sampled_from([7, 100, 101, 3000]), st.integers(1, 4))


@given(st.lists(ZEROS | SPIKES, max_size=25))
@settings(max_examples=60, deadline=None)
def test_troiano_and_choi_agree_with_plain_loops(runs):
  day = np.array([count for count, length in runs for _ in range(length)], float)
  for rule, by_plain_loop in (("zeros", troiano), ("choi", choi)):
    on, off = worn_steps(day[:, None], Recipe((COUNTS,), worn=WearRule(rule)))
    assert off.tolist() == by_plain_loop(day.tolist())
    assert on.tolist() == (~off & ~np.isnan(day)).tolist()


@given(places=st.lists(st.integers(0, 1439), min_size=1, max_size=10), within=st.integers(0, 90))
@settings(max_examples=40, deadline=None)
def test_worn_near_heart_readings(places, within):
  values = np.full((1440, 1), np.nan)
  values[places] = 60
  on, off = worn_steps(values, Recipe((HEART,), worn=WearRule("heart", within=within)))
  assert on.tolist() == [any(abs(m - place) <= within for place in places) for m in range(1440)]
  assert (off == ~on).all()


def test_flag_off_and_other_run_lengths():
  flag = np.tile([[1.0], [0.0], [np.nan]], (480, 1))
  on, off = worn_steps(flag, Recipe((FLAG,), worn=WearRule("flag", flag="on_wrist")))
  assert on[:3].tolist() == [True, False, False] and off[:3].tolist() == [False, True, False]
  assert not np.any(worn_steps(flag, Recipe((FLAG,), worn=WearRule("off"))))
  assert not np.any(worn_steps(flag, Recipe((FLAG,))))  # rule auto, but the recipe has neither heart nor counts
  zeros = np.r_[np.full(600, 5.0), np.zeros(300), np.full(540, 5.0)][:, None]
  assert worn_steps(zeros, Recipe((COUNTS,), worn=WearRule("zeros", run=300)))[1].sum() == 300
  assert worn_steps(zeros, Recipe((COUNTS,), worn=WearRule("zeros", run=301)))[1].sum() == 0


def test_auto_uses_the_heart_on_days_that_have_it():
  values = np.full((2880, 2), np.nan)
  values[:, 1] = 0
  values[100, 0] = 60
  values[1440:2160, 1] = 500
  on, off = worn_steps(values, Recipe((HEART, COUNTS)))
  assert np.flatnonzero(on[:1440]).tolist() == list(range(90, 111)) and (off == ~on).all()
  assert np.flatnonzero(on[1440:]).tolist() == list(range(720))


@pytest.mark.parametrize("minutes, run", [(5, 12), (15, 4)])
def test_longer_steps(minutes, run):
  day = np.full((1440 // minutes, 1), 9.0)
  day[10 : 10 + run] = 0
  day[40 : 40 + run - 1] = 0
  _, off = worn_steps(day, Recipe((COUNTS,), minutes, worn=WearRule("zeros")))
  assert np.flatnonzero(off).tolist() == list(range(10, 10 + run))
