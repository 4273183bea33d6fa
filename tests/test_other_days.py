"""A channel that nothing of the day tells is filled by a model that reads the person's other days, and by no other."""

import csv

import numpy as np
import pytest

import aim
from data_pipelines.build import build, npz_request
from data_pipelines.npz import NpzSource
from data_pipelines.splits import ListSplit
from tests import tiny

PEOPLE, TRAINED, DAYS, STEPS = 20, 16, 6, 24


def habits() -> dict[str, np.ndarray]:
  """Days of people with a rhythm of their own in `habit`, and noise in `pulse`."""
  rng = np.random.default_rng(0)
  shift, height = rng.uniform(0, 2 * np.pi, (2, PEOPLE, 1, 1))
  clock = 2 * np.pi * np.arange(STEPS) / STEPS
  usual = 50 + 10 * np.sin(clock + shift) + 5 * np.sin(2 * clock + height)
  habit = usual + rng.normal(0, 1, (PEOPLE, DAYS, STEPS))
  values = np.stack([rng.normal(60, 5, habit.shape), habit], axis=-1)
  return {
    "values": values.reshape(-1, STEPS, 2).astype(np.float32),
    "channels": np.array(["pulse", "habit"]),
    "participant": np.array([f"p{row // DAYS:02d}" for row in range(PEOPLE * DAYS)]),
    "day": np.arange(PEOPLE * DAYS) % DAYS,
    "date": np.array([f"2024-01-{1 + row % DAYS:02d}" for row in range(PEOPLE * DAYS)]),
    "minutes_per_step": np.int64(60),
  }


def errors(workdir) -> dict[str, float]:
  """Mean squared error of each method where a channel is lost."""
  with (workdir / "generative.csv").open(newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["task"] == "sensor" and row["metric"] == "mse"]
  return {row["model"]: float(row["value"]) for row in rows}


@pytest.mark.slow
def test_other_days_fill_what_the_day_does_not_tell(tmp_path):
  np.savez(tmp_path / "habits.npz", **habits())
  source = NpzSource(tmp_path / "habits.npz")
  people = tuple(source.participants)
  split = ListSplit(people[:TRAINED], (), people[TRAINED:])
  dataset = build(source, tmp_path / "data", "habits", split=split, request=npz_request(tmp_path / "habits.npz"))
  found = {}
  for most in (0, 5):
    changes = {"total_steps": 150, "batch_size": 16, "optimizer__learning_rate": 3e-3, "log__every_steps": 50}
    changes |= {"evaluate__sensor_channels": (1,), "evaluate__gap_minutes": (), "evaluate__extrapolation_minutes": ()}
    changes |= {"model__interpolation_skip": True, "model__skip_evidence": "smooth", "model__context_days": most}
    flags, workdir = [f"--config={tiny.CONFIG}", *tiny.on(dataset), *tiny.overrides(**changes)], tmp_path / f"{most}"
    for mode in ("pretrain", "evaluate"):
      ended = tiny.run(*flags, f"--workdir={workdir}", f"--mode={mode}")
      assert ended.code == 0, ended.err
    found[most] = errors(workdir)
  alone, beside = found[0]["LSM-2"], found[5]["LSM-2"]
  assert beside < 0.75 * alone, "half of the lost channels are noise, for which no day helps"
  assert beside < 1.05 * found[5]["person_time_of_day_mean"]
  model, days = aim.load(tmp_path / "5"), habits()
  full = days["values"].copy()
  full[::DAYS, :, 1] = np.nan  # of each person the first day has lost the channel
  error = lambda filled: float(np.mean((filled[::DAYS, :, 1] - days["values"][::DAYS, :, 1]) ** 2))
  with_people, without = model.impute(full, people=days["participant"]), model.impute(full)
  assert error(with_people) < 0.2 * error(without)
  strangers = model.impute(full, people=np.arange(len(full)))
  np.testing.assert_allclose(strangers, without, rtol=1e-5)
