"""The log of a training run: the guard that names a bad gradient, and the lines of metrics.jsonl."""

import json
import math

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from aim.model import flops
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Tower
from aim.training.compiled_step import compilations
from aim.training.metrics_writer import MetricsWriter
from aim.training.train_log import DIVERGED, SMOOTHED, Divergence, TrainingError, TrainLog
from tests import tiny

ARCHITECTURE = tiny.architecture(4, 8, 2, Tower(8, 16, 2, 1), Tower(8, 16, 2, 1))
TOKENS = ARCHITECTURE.tokens
SMALL, LARGE = (
  BufferSizes(0, 12, TOKENS, 20, TOKENS, TOKENS, "all"),
  BufferSizes(2, 16, TOKENS, 20, TOKENS, TOKENS, "all"),
)


def make_log(tmp_path, on_nan: str = "stop", every: int = 2) -> TrainLog:
  config = ml_collections.ConfigDict(
    {
      "total_steps": 4,
      "batch_size": 4,
      "log": {"every_steps": every},
      "data": {"on_corrupt": "stop"},
      "method": "mae",
      "optimizer": {"on_nan": on_nan, "accumulate": 2, "learning_rate": 0.5, "clip_norm": 1.0},
    }
  )
  names = ["head/bias", "bridge/kernel", "mask_token"]  # not sorted, as a caller may pass them
  return TrainLog(config, MetricsWriter(tmp_path), ARCHITECTURE, names, np.linspace(0, 1, 5), 0)


def step_metrics(bad: tuple[bool, ...] = (False,) * 3, loss: float = 1.0) -> dict:
  ok = not any(bad) and bool(np.isfinite(loss))
  metrics = {"loss": loss, "gradient_norm": 1.0, "visible_tokens": 40, "scored_tokens": 80, "useful_flops": 2e5}
  metrics |= {"bad": bad, "ok": ok}
  return {name: jnp.asarray(value) for name, value in metrics.items()}


def lines(tmp_path) -> list[dict]:
  return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
  ("bad", "loss", "what"),
  [
    ((False, True, False), 1.0, r"step 1: the gradient of head/bias is NaN or Inf \(1 of 3"),
    ((True, False, True), 1.0, r"step 1: the gradient of bridge/kernel is NaN or Inf \(2 of 3"),
    ((False, False, False), np.nan, r"step 1: the loss is NaN or Inf \(0 of 3"),
  ],
)
def test_the_guard_names_the_first_bad_gradient(tmp_path, bad, loss, what):
  """The step's `bad` is in the order of sorted names."""
  log = make_log(tmp_path)
  log.record(0, SMALL, step_metrics())
  log.record(1, SMALL, step_metrics(bad, loss))
  with pytest.raises(TrainingError, match=what) as error:
    log.flush()
  assert "\n" not in str(error.value) and "optimizer.on_nan=skip" in str(error.value)
  log.close()


def test_a_run_of_skipped_steps_alone_has_learnt_nothing(tmp_path):
  log = make_log(tmp_path, on_nan="skip")
  log.check_learnt()  # nothing was read yet
  for step in range(2):
    log.record(step, SMALL, step_metrics((True, False, False), np.nan))
  log.flush()
  with pytest.raises(
    TrainingError, match=r"all 2 steps of this run were skipped, .*; the last one, step 1: the gradient"
  ):
    log.check_learnt()
  log.record(2, SMALL, step_metrics())
  log.flush()
  log.check_learnt()
  log.close()
  strict = [
    json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
  ]
  assert strict[2]["step"] == 2 and strict[2]["loss"] is None, "NaN is null"


def test_skipping_leaves_the_bad_step_out_of_the_means(tmp_path):
  log = make_log(tmp_path, on_nan="skip")
  log.record(0, SMALL, step_metrics((True, False, False), np.nan))
  log.record(1, LARGE, step_metrics(loss=3.0))
  assert log.last == {}, "the current step must not be read yet"
  log.record(2, SMALL, step_metrics())
  skipped, interval = lines(tmp_path)
  assert skipped["step"] == 1 and "bridge/kernel" in skipped["skipped"]
  assert interval["step"] == 2 and interval["loss"] == 3.0 and interval["skipped_steps"] == 1
  assert interval["learning_rate"] == 0.25 and interval["visible_tokens"] == 10
  # Two microbatches per step: two windows of 12 slots each, then two groups of 16.
  assert interval["padding_share"] == pytest.approx(1 - 80 / (2 * 2 * 12 + 2 * 2 * 16))
  executed = 2 * sum(flops.executed_flops(ARCHITECTURE, size, 2) for size in (SMALL, LARGE))
  assert interval["useful_flops_share"] == pytest.approx(4e5 / executed)
  assert interval["mfu_useful"] is None and interval["mfu_executed"] is None  # these are CPUs
  ratio = interval["useful_gflops_per_second"] / interval["executed_gflops_per_second"]
  assert ratio == pytest.approx(interval["useful_flops_share"])
  assert 0 < interval["compilations"] <= compilations()
  log.close()


def diverged(losses, method: str = "mae", earlier=()) -> list[str]:
  """The lines that are reported over a run with these losses."""
  optimizer = {"learning_rate": 0.5, "clip_norm": 1.0}
  divergence = Divergence(ml_collections.ConfigDict({"method": method, "optimizer": optimizer}), earlier)
  return [line for step, loss in enumerate(losses) if (line := divergence.add(step, loss))]


FALLING = [1.0 - 0.01 * step for step in range(80)]


@pytest.mark.parametrize(
  ("losses", "step"),
  [
    (FALLING + [5.0] * 60, 80 + SMOOTHED // 2 + 1),  # it learns, then explodes
    ([1.1, *([40.0] * 60)], SMOOTHED),  # it explodes at once and stays there
    ([1.1, *(100.0 / step for step in range(1, 60))], SMOOTHED),  # it explodes at once and comes down
    ([1.0] * 30 + [2.0**k for k in range(40)], 30 + 3 + SMOOTHED // 2),
  ],
)
def test_a_loss_that_diverges_is_reported_once(losses, step):
  (line,) = diverged(losses)
  assert line.startswith(f"step {step}: the loss diverges: ") and "\n" not in line
  assert line.endswith("lower config.optimizer.learning_rate (now 0.5) or config.optimizer.clip_norm (now 1)")


@pytest.mark.parametrize(
  "losses",
  [
    FALLING,
    FALLING + [0.9] * 60,  # it goes back to what predicting the mean gives, which overfitting or a hard batch may do
    [1.0 if step % 7 else 1e6 for step in range(200)],  # odd batches
    [1.5 + math.sin(step) for step in range(200)],  # noise
    [1.0, 1e9],
  ],
)
def test_what_does_not_diverge(losses):
  assert not diverged(losses)


def test_divergence_of_resumed_runs_and_of_other_losses():
  earlier = [{"step": 50, "loss": 0.2}, {"step": 60, "heldout_loss": 0.1}, {"step": 100, "loss": None}]
  assert len(diverged([1.5] * 30, earlier=earlier)) == 1
  assert not diverged([1.5] * 30, earlier=[*earlier, {"step": 110, DIVERGED: "step 110: ..."}])
  assert not diverged([6.0] * 5 + [1.0] * 30 + [5.5] * 60, "simclr")  # no worse than at the start
  assert len(diverged([6.0] * 5 + [1.0] * 30 + [7.5] * 60, "simclr")) == 1


def test_divergence_is_in_the_log_and_on_the_console(tmp_path, capsys):
  log = make_log(tmp_path, every=1000)
  for step in range(3 * SMOOTHED):
    log.record(step, SMALL, step_metrics(loss=1.0 if step < SMOOTHED else 50.0))
  log.close()
  (line,) = [line for line in lines(tmp_path) if DIVERGED in line]
  out, err = capsys.readouterr()
  assert line["step"] == SMOOTHED + SMOOTHED // 2 + 1
  assert (out + err).count(line[DIVERGED]) == 1 and "the loss diverges: 50 " in line[DIVERGED]
