"""Runs that are killed, interrupted or lose a checkpoint end bit for bit as an unbroken run does."""

import json
import os
import pathlib
import random
import shutil
import signal
import time

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
import pytest

from aim.training import checkpoint
from tests import tiny

STEPS, EVERY = 40, 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def command(dataset):
  changes = {"form": "trimmed", "total_steps": STEPS, "log__every_steps": 1}
  flags = tiny.overrides(**changes, checkpoint__every_steps=EVERY, checkpoint__keep=100)
  return [f"--config={tiny.CONFIG}", *tiny.on(dataset), *flags]


@pytest.fixture(scope="module")
def unbroken(command, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken")
  ended = tiny.run(*command, f"--workdir={workdir}")
  assert ended.code == 0, ended.err
  assert checkpoint_steps(workdir) == list(range(EVERY, STEPS + 1, EVERY))
  return workdir


@pytest.fixture
def copy(unbroken, tmp_path):
  return shutil.copytree(unbroken, tmp_path / "copy")


def checkpoint_steps(workdir):
  return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


def bits(workdir, step):
  """Every array of a checkpoint (parameters, EMA, optimiser and step) as (name, dtype, shape, bytes)."""
  items = ocp.load_checkpointables(workdir / "checkpoints" / str(step))
  assert set(items) >= {"params", "ema", "training"}
  leaves = jax.tree_util.tree_flatten_with_path({name: items[name] for name in ("params", "ema", "training")})[0]
  arrays = [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in leaves]
  return [(name, str(array.dtype), array.shape, array.tobytes()) for name, array in arrays]


def records(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same_end(workdir, unbroken):
  assert bits(workdir, STEPS) == bits(unbroken, STEPS)
  ours, theirs = ([(record["step"], record["loss"]) for record in records(folder)] for folder in (workdir, unbroken))
  # A step that was lost with its process and repeated is logged once.
  assert ours == theirs and [step for step, _ in ours] == list(range(1, STEPS + 1))


def reach(process, workdir, step):
  """Waits until metrics.jsonl has a line of `step`."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  deadline = time.monotonic() + tiny.HANGS_AFTER_SECONDS
  while time.monotonic() < deadline and process.poll() is None:
    if path.exists() and any(f'"step": {step},' in line for line in path.read_text().splitlines()):
      return
    time.sleep(0.001)
  process.kill()
  raise AssertionError(f"never reached step {step}: {tiny.wait(process)}")


@pytest.mark.slow
def test_killed_at_random_steps(command, unbroken, tmp_path):
  chance = random.Random(2)
  for step in (chance.randint(2, 12), chance.randint(18, 30)):
    process = tiny.start(*command, f"--workdir={tmp_path}")
    reach(process, tmp_path, step)
    os.kill(process.pid, signal.SIGKILL)
    assert tiny.wait(process).code == -signal.SIGKILL
  ended = tiny.run(*command, f"--workdir={tmp_path}")
  assert ended.code == 0, ended.err
  assert "going on from there" in ended.out
  assert_same_end(tmp_path, unbroken)
  # Saves run while training goes on and donates the state's buffers; they hold the state of their own step.
  for step in checkpoint_steps(tmp_path):
    assert bits(tmp_path, step) == bits(unbroken, step), step


@pytest.mark.parametrize(
  "signals", [((signal.SIGTERM, 12),), pytest.param(((signal.SIGINT, 5), (signal.SIGTERM, 21)), marks=pytest.mark.slow)]
)
def test_interrupted_and_terminated(command, unbroken, tmp_path, signals):
  for number, after in signals:
    process = tiny.start(*command, f"--workdir={tmp_path}")
    reach(process, tmp_path, after)
    process.send_signal(number)
    ended = tiny.wait(process)
    saved = checkpoint_steps(tmp_path)[-1]
    assert ended.code == 128 + number
    assert f"{tmp_path}: {number.name}: saved step {saved}; repeat the command to go on" in ended.out
    assert "Traceback" not in ended.err
    assert records(tmp_path)[-1]["step"] == saved >= after
  ended = tiny.run(*command, f"--workdir={tmp_path}")
  assert f"{tmp_path}: checkpoint at step {saved}: going on from there" in ended.out
  assert_same_end(tmp_path, unbroken)
  # No step was lost, so none was repeated.
  assert [record["step"] for record in records(tmp_path)] == list(range(1, STEPS + 1))


def test_a_finished_run_is_not_repeated(command, copy):
  before = {path: path.stat().st_mtime_ns for path in (copy / "checkpoints").rglob("*") if path.is_file()}
  ended = tiny.run(*command, f"--workdir={copy}")
  assert (ended.code, ended.err) == (0, "")
  assert ended.out == f"{copy}: already trained for {STEPS} steps; raise --config.total_steps to go on\n"
  assert before == {path: path.stat().st_mtime_ns for path in (copy / "checkpoints").rglob("*") if path.is_file()}
  assert len(records(copy)) == STEPS


def test_lines_of_lost_steps_are_cut_off(command, copy):
  """A half-written line too. A run that is refused leaves the file as it is."""
  shutil.rmtree(copy / "checkpoints" / str(STEPS))
  path, config = copy / "metrics.jsonl", (copy / "config.json").read_text()
  whole = path.read_text()
  path.write_text(whole + '{"step": 3')
  ended = tiny.run(*command, f"--workdir={copy}", "--config.model.encoder.layers=2")
  assert ended.code == 2 and "is of another architecture" in ended.err
  assert path.read_text() == whole + '{"step": 3'
  assert (copy / "config.json").read_text() == config
  assert tiny.run(*command, f"--workdir={copy}").code == 0
  earlier = whole.splitlines()[: STEPS - EVERY]
  assert path.read_text().splitlines()[: STEPS - EVERY] == earlier
  assert [record["step"] for record in records(copy)] == list(range(1, STEPS + 1))


# Damages. Orbax's own file names appear only here: a version with another layout fails these tests.


def no_metadata(newest):
  (newest / "_CHECKPOINT_METADATA").unlink()


def half_metadata(newest):
  path = newest / "_CHECKPOINT_METADATA"
  path.write_text(path.read_text()[:1000])


def never_committed(newest):
  """As Orbax leaves a checkpoint whose process died before the save's last act, which records its time."""
  path = newest / "_CHECKPOINT_METADATA"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"commit_timestamp_nsecs": None}))


def no_optimizer(newest):
  shutil.rmtree(newest / "training")


def half_arrays(newest):
  for path in newest.glob("*/ocdbt.process_0/d/*"):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def interrupted_save(newest):
  newest.rename(newest.with_name(f"{newest.name}.orbax-checkpoint-tmp"))


DAMAGES = [no_metadata, half_metadata, never_committed, no_optimizer, half_arrays, interrupted_save]


@pytest.mark.parametrize(
  "damage", [half_arrays, *(pytest.param(d, marks=pytest.mark.slow) for d in (never_committed, interrupted_save))]
)
def test_the_newest_complete_checkpoint_is_used(command, unbroken, copy, damage):
  newest = copy / "checkpoints" / str(STEPS)
  damage(newest)
  ended = tiny.run(*command, f"--workdir={copy}")
  assert ended.code == 0, ended.err
  (line,) = [line for line in ended.out.splitlines() if line.startswith(str(newest))]
  assert line.endswith("; removed" if damage is interrupted_save else f"; renamed to {STEPS}.damaged")
  assert f"{copy}: checkpoint at step {STEPS - EVERY}: going on from there" in ended.out
  assert "Traceback" not in ended.err
  assert bits(copy, STEPS) == bits(unbroken, STEPS)


@pytest.mark.parametrize("damage", DAMAGES[:-1])  # after an interrupted first save the run starts anew
def test_no_checkpoint_is_left_to_go_on_from(command, copy, damage):
  for step in checkpoint_steps(copy)[:-1]:
    shutil.rmtree(copy / "checkpoints" / str(step))
  damage(copy / "checkpoints" / str(STEPS))
  ended = tiny.run(*command, f"--workdir={copy}")
  assert ended.code == 2
  assert ended.err == f"error: {copy}: no checkpoint is left to go on from; repeat to start anew\n"
  assert checkpoint_steps(copy) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_read(copy, damage, capsys):
  newest = copy / "checkpoints" / str(STEPS)
  damage(newest)
  assert checkpoint.read(copy).step == STEPS - EVERY
  printed = capsys.readouterr().out
  if damage is interrupted_save:  # which never was a checkpoint
    assert printed == ""
    return
  reason, taken = printed.splitlines()
  assert reason.startswith(f"{newest}: ") and reason.endswith("; left out")
  assert taken == f"{copy}: the checkpoint of step {STEPS - EVERY} is used, the newest that can be read"


def test_one_checkpoint_is_read_by_its_folder(copy):
  assert checkpoint.read(copy / "checkpoints" / "8").step == 8
  never_committed(copy / "checkpoints" / "8")
  with pytest.raises(checkpoint.CheckpointError, match="/8: is not complete"):
    checkpoint.read(copy / "checkpoints" / "8")
