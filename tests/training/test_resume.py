"""Runs that are killed, interrupted or lose a checkpoint end with the parameters of an unbroken run, to the bit."""

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
  """Every array of a checkpoint, parameters, EMA, optimiser and step, as (name, dtype, shape, bytes)."""
  wanted = ocp.load_checkpointables(workdir / "checkpoints" / str(step))
  assert set(wanted) >= {"params", "ema", "training"}
  leaves = jax.tree_util.tree_flatten_with_path({name: wanted[name] for name in ("params", "ema", "training")})[0]
  arrays = [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in leaves]
  return [(name, str(array.dtype), array.shape, array.tobytes()) for name, array in arrays]


def records(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def same_end(workdir, unbroken):
  assert bits(workdir, STEPS) == bits(unbroken, STEPS)
  ours, theirs = ([(record["step"], record["loss"]) for record in records(folder)] for folder in (workdir, unbroken))
  # A step that was lost with its process and done again is told once.
  assert ours == theirs and [step for step, _ in ours] == list(range(1, STEPS + 1))


def reach(process, workdir, step):
  """Waits until metrics.jsonl tells of `step`."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  deadline = time.monotonic() + 120
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
  same_end(tmp_path, unbroken)
  # What was saved while training went on, its buffers donated, is what was there at that step.
  for step in checkpoint_steps(tmp_path):
    assert bits(tmp_path, step) == bits(unbroken, step), step


def test_interrupted_and_terminated(command, unbroken, tmp_path):
  for number, after in ((signal.SIGINT, 5), (signal.SIGTERM, 21)):
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
  same_end(tmp_path, unbroken)
  # Nothing was lost, so nothing was done twice.
  assert [record["step"] for record in records(tmp_path)] == list(range(1, STEPS + 1))


def test_finished_and_repeated(command, copy):
  before = {path: path.stat().st_mtime_ns for path in (copy / "checkpoints").rglob("*") if path.is_file()}
  ended = tiny.run(*command, f"--workdir={copy}")
  assert (ended.code, ended.err) == (0, "")
  assert ended.out == f"{copy}: already trained for {STEPS} steps; raise --config.total_steps to go on\n"
  assert before == {path: path.stat().st_mtime_ns for path in (copy / "checkpoints").rglob("*") if path.is_file()}
  assert len(records(copy)) == STEPS


def test_what_was_told_of_lost_steps_is_cut_off(command, copy):
  """And a line of which half was written; nothing of it while the run is refused."""
  shutil.rmtree(copy / "checkpoints" / str(STEPS))
  path, config = copy / "metrics.jsonl", (copy / "config.json").read_text()
  whole = path.read_text()
  path.write_text(whole + '{"step": 3')
  ended = tiny.run(*command, f"--workdir={copy}", "--config.model.encoder.layers=2")
  assert ended.code == 2 and "is of another architecture" in ended.err
  assert path.read_text() == whole + '{"step": 3'
  assert (copy / "config.json").read_text() == config
  assert tiny.run(*command, f"--workdir={copy}").code == 0
  kept = whole.splitlines()[: STEPS - EVERY]
  assert path.read_text().splitlines()[: STEPS - EVERY] == kept
  assert [record["step"] for record in records(copy)] == list(range(1, STEPS + 1))


def no_metadata(newest):
  (newest / "_CHECKPOINT_METADATA").unlink()


def half_metadata(newest):
  path = newest / "_CHECKPOINT_METADATA"
  path.write_text(path.read_text()[:1000])


def not_committed(newest):
  (newest / "commit_success.txt").unlink()


def no_optimizer(newest):
  shutil.rmtree(newest / "training")


def half_arrays(newest):
  for path in newest.glob("*/ocdbt.process_0/d/*"):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def interrupted_save(newest):
  newest.rename(newest.with_name(f"{newest.name}.orbax-checkpoint-tmp"))


DAMAGES = [no_metadata, half_metadata, not_committed, no_optimizer, half_arrays, interrupted_save]


@pytest.mark.parametrize("damage", [not_committed, half_arrays, interrupted_save])
def test_newest_complete_checkpoint_is_taken(command, unbroken, copy, damage):
  newest = copy / "checkpoints" / str(STEPS)
  damage(newest)
  ended = tiny.run(*command, f"--workdir={copy}")
  assert ended.code == 0, ended.err
  told = [line for line in ended.out.splitlines() if line.startswith(str(newest))]
  assert len(told) == 1
  assert told[0].endswith("; removed" if damage is interrupted_save else f"; renamed to {STEPS}.damaged")
  assert f"{copy}: checkpoint at step {STEPS - EVERY}: going on from there" in ended.out
  assert "Traceback" not in ended.err
  assert bits(copy, STEPS) == bits(unbroken, STEPS)


@pytest.mark.parametrize("damage", DAMAGES[:-1])  # an interrupted first save is no damage: the run starts anew
def test_nothing_left_to_go_on_from(command, copy, damage):
  for step in checkpoint_steps(copy)[:-1]:
    shutil.rmtree(copy / "checkpoints" / str(step))
  damage(copy / "checkpoints" / str(STEPS))
  ended = tiny.run(*command, f"--workdir={copy}")
  assert ended.code == 2
  assert ended.err == f"error: {copy}: no checkpoint is left to go on from; repeat to start anew\n"
  assert checkpoint_steps(copy) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_a_damaged_checkpoint(copy, damage, capsys):
  newest = copy / "checkpoints" / str(STEPS)
  damage(newest)
  if damage is half_arrays:
    with pytest.raises(checkpoint.CheckpointError, match="its arrays cannot be read") as caught:
      checkpoint.read(copy)
    assert "\n" not in str(caught.value)
    return
  assert checkpoint.read(copy).step == STEPS - EVERY
  assert (f"{newest}: " in capsys.readouterr().out) == (damage is not interrupted_save)


def test_reading_one_checkpoint(copy):
  assert checkpoint.read(copy / "checkpoints" / "8").step == 8
  not_committed(copy / "checkpoints" / "8")
  with pytest.raises(checkpoint.CheckpointError, match="/8: is not complete"):
    checkpoint.read(copy / "checkpoints" / "8")
