"""Paired differences become sentences whose colour follows from their outcome."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.evaluation.results import Result
from aim.report import verdicts
from data_pipelines.page.blocks import TextLine


def sentence(metric: str, value: float, low: float, high: float) -> TextLine:
  other = metric.split(" vs ")[1].removesuffix(" %")
  [line] = verdicts.sentences([Result("d", "random", "80 %", "LSM-2", metric, value, low, high, 9, 0, other)])
  return line


@pytest.mark.parametrize(
  ("metric", "numbers", "text", "tone"),
  [
    (
      "mse vs linear %",
      (-23.0, -27.0, -19.0),
      "LSM-2 against linear interpolation (random, 80 %, mse): better, -23 % [-27, -19]",
      "yes",
    ),
    ("mse vs LSM-1 %", (4.0, 1.0, 7.0), "LSM-2 against LSM-1 (random, 80 %, mse): worse, +4 % [+1, +7]", "no"),
    (
      "mae vs mask-only",
      (-1.0, -3.0, 0.5),
      "LSM-2 against mask-only (random, 80 %, mae): not beyond chance, -1 [-3, +0.5]",
      "open",
    ),
    (
      "auroc vs LSM-1",
      (0.1, 0.05, 0.2),
      "LSM-2 against LSM-1 (random, 80 %, auroc): better, +0.1 [+0.05, +0.2]",
      "yes",
    ),
    (
      "f1 vs constant",
      (0.1, math.nan, math.nan),
      "LSM-2 against a constant (random, 80 %, f1): cannot be told (9 people), +0.1",
      "open",
    ),
  ],
)
def test_a_single_comparison_is_a_sentence(metric, numbers, text, tone):
  assert sentence(metric, *numbers) == TextLine(text, tone)


@given(st.floats(-50, 50), st.floats(0, 20), st.sampled_from(["mse", "mae", "auroc", "balanced_accuracy"]))
def test_a_colour_needs_the_whole_interval(value, half, metric):
  gain = -value if metric in ("mse", "mae") else value
  low, high = value - half, value + half  # rounding may leave no width
  expected = "open" if low == high else "yes" if gain > half else "no" if -gain > half else "open"
  assert sentence(f"{metric} vs LSM-1", value, low, high).tone == expected


def test_a_comparison_without_an_interval_does_not_change_the_colour():
  differences = [Result("d", "random", f"{i} %", "LSM-2", "mse vs b %", -9, *ci, 9, 0, "b").difference
                 for i, ci in enumerate(((-12, -5), (math.nan, math.nan)))]  # fmt: skip
  assert [verdicts.tone(group) for group in (differences, differences[1:])] == ["yes", "open"]
