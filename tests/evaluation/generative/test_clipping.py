"""Scored truths beyond a channel's clip are counted by task and channel, and come back from their file."""

from __future__ import annotations

import numpy as np
import pytest

from aim.evaluation.generative import clipping
from aim.evaluation.generative.clipping import ClippedTruth, ClippingCounts
from aim.evaluation.generative.tasks import GenerativeTask
from aim.evaluation.results import ResultsError
from data_pipelines.schema import Channel, Schema

TASK = GenerativeTask("workout", 60)


@pytest.fixture
def schema() -> Schema:
  return Schema(60, (Channel("pulse", "bpm", "PPG"), Channel("walks", "", "ACC", kind="binary")))


def days() -> tuple[np.ndarray, np.ndarray]:
  """Two days of 24 steps: four truths of the pulse are clipped, three of which are scored."""
  values = np.full((2, 24, 2), 70.0, np.float32)
  values[0, :3, 0], values[1, 0, 0], values[:, 5] = 190, 3, np.nan
  scored = ~np.isnan(values)
  scored[0, 0] = False
  return values, scored


def test_clipped_truths_are_counted(schema, tmp_path):
  values, scored = days()
  whole = ClippingCounts(np.array([5.0, -np.inf]), np.array([166.0, np.inf]))
  whole.add(TASK, values, scored)
  [row] = whole.clipped(schema)
  assert row == ClippedTruth("workout", 60, "pulse", "bpm", 5.0, 166.0, 45, 3, 3.0, 190.0)
  clipping.write_csv(tmp_path / "clipped.csv", [row])
  assert clipping.read_csv(tmp_path / "clipped.csv") == [row]
  parts = [ClippingCounts(whole.low, whole.high) for _ in values]
  for part, day, of_day in zip(parts, values, scored, strict=True):
    part.add(TASK, day[None], of_day[None])
  parts[0].include(parts[1])
  assert parts[0].clipped(schema) == [row], "the same from any number of processes"


def test_another_file_is_refused(tmp_path):
  (tmp_path / "clipped.csv").write_text("task,level\nworkout,sixty\n")
  with pytest.raises(ResultsError, match="cannot be read as clipped truths"):
    clipping.read_csv(tmp_path / "clipped.csv")
