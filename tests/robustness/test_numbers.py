"""Numbers that are not finite: refused by name before a run, never saved in a checkpoint, never written as a result."""

from __future__ import annotations

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from aim.inference import loading
from aim.training import checkpoint
from tests import tiny

CONFIG = f"--config={tiny.CONFIG}"
# The parameters grow by a factor of a million per step, until they are beyond float32.
DIVERGING = {"optimizer__learning_rate": 1000, "optimizer__weight_decay": 1000, "optimizer__warmup_share": 0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("numbers"))


@pytest.fixture(scope="module")
def diverged(dataset, tmp_path_factory):
  """A run whose parameters would overflow, told to go on."""
  workdir = tmp_path_factory.mktemp("diverged")
  changes = DIVERGING | {"optimizer__on_nan": "skip", "total_steps": 12}
  ended = tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(**changes), f"--workdir={workdir}")
  assert ended.code == 0, ended.err
  return workdir


def strict_json(text: str):
  """JSON without the words NaN and Infinity, which Python's reader accepts and others do not."""
  return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in {text[:200]}"))


def test_steps_that_overflow_are_skipped_and_nothing_of_them_is_saved(diverged):
  records = [strict_json(line) for line in (diverged / "metrics.jsonl").read_text().splitlines()]
  skipped = [record["skipped"] for record in records if "skipped" in record]
  assert skipped and "is NaN or Inf" in skipped[0]
  restored = checkpoint.read(diverged)
  assert all(np.isfinite(leaf).all() for leaf in restored.params.values())
  strict_json((diverged / "config.json").read_text())


def test_a_run_that_only_skips_ends_with_one_line_and_saves_nothing(dataset, diverged, tmp_path):
  before = checkpoint.complete_steps(diverged)
  changes = DIVERGING | {"optimizer__on_nan": "skip", "total_steps": 14}
  ended = tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(**changes), f"--workdir={diverged}")
  assert ended.code == 2 and "Traceback" not in ended.err
  assert "error: all 2 steps of this run were skipped, so nothing was learnt" in ended.err.splitlines()[-1]
  assert checkpoint.complete_steps(diverged) == before


def test_without_skipping_the_same_run_stops_at_the_step(dataset, tmp_path):
  changes = DIVERGING | {"total_steps": 12}
  ended = tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(**changes), f"--workdir={tmp_path}")
  assert ended.code == 2 and "is NaN or Inf" in ended.err.splitlines()[-1]


@pytest.mark.parametrize("mode", ["pretrain", "evaluate", "probe", "finetune", "report", "compare", "heldout"])
def test_a_number_out_of_its_range_is_refused_before_anything_is_done(mode, tmp_path):
  workdir = tmp_path / "workdir"
  key, value, expected = "optimizer.learning_rate", "inf", "a number above 0 and at most 1,000"
  if mode == "compare":  # whose models have learning rates of their own
    key, value, expected = "compare.jobs", "0", "a whole number from 1 to 1,000"
  ended = tiny.run(CONFIG, f"--mode={mode}", f"--workdir={workdir}", f"--config.{key}={value}")
  assert ended.code == 2 and not workdir.exists()
  assert ended.err == f"error: config.{key} is {value}, expected {expected}\n"


def test_no_mode_writes_the_results_of_a_model_that_is_not_finite(dataset, diverged, tmp_path, monkeypatch):
  """Whatever made it so: here a parameter is changed behind the checkpoint's back."""
  restored = checkpoint.read(diverged)
  broken = {name: jnp.full_like(leaf, jnp.nan) for name, leaf in restored.params.items()}
  restored = checkpoint.Restored(
    restored.config, restored.schema, restored.scale, restored.architecture, broken, restored.step
  )
  monkeypatch.setattr(checkpoint, "read", lambda path: restored)
  from aim.inference import commands

  source = str(pathlib.Path(dataset.path.parents[3], "tiny.npz"))
  for use, arguments in (
    (commands.embed, (source, "data", "all", str(tmp_path / "e.npz"))),
    (commands.impute, (source, str(tmp_path / "i.npz"))),
  ):
    with pytest.raises(
      checkpoint.CheckpointError, match=r"is NaN or Inf, although its values are not: parameter .* of"
    ):
      use(str(diverged), *arguments)
  assert not list(tmp_path.iterdir())
  assert loading.load(diverged).params is broken
