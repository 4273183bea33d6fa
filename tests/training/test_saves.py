"""Many saves in one process: aim/training/checkpoint.py."""

import threading

import jax.numpy as jnp
import pytest

from aim.training.checkpoint import Checkpoints
from aim.training.checkpoint_metadata import CheckpointError


def test_saves_leave_no_thread_behind(tmp_path):
  state = {"params": {"head/bias": jnp.zeros(3)}, "optimizer": {"count": jnp.int32(0)}, "ema": {}}
  before = set(threading.enumerate())
  checkpoints = Checkpoints(tmp_path, every=1, keep=2)
  for step in range(1, 6):
    checkpoints.save(step, {**state, "step": jnp.int32(step)}, {"config": {}})
  checkpoints.close()
  assert checkpoints.latest == 5
  # Whose work is done may take a moment to end; one that waits for further work would not end at all.
  for thread in set(threading.enumerate()) - before:
    thread.join(timeout=5)
    assert not thread.is_alive(), thread.name


def test_a_failed_save_is_told_once(tmp_path, monkeypatch):
  """A save fails in the background, and closing after it fails with the same error."""
  state = {"params": {"head/bias": jnp.zeros(3)}, "optimizer": {"count": jnp.int32(0)}, "ema": {}, "step": jnp.int32(1)}
  checkpoints = Checkpoints(tmp_path, every=1, keep=2)
  full = OSError(28, "No space left on device")

  def fail(*_, **__):
    raise full

  monkeypatch.setattr(checkpoints.checkpointer, "save_checkpointables_async", fail)
  close = checkpoints.checkpointer.close
  monkeypatch.setattr(checkpoints.checkpointer, "close", fail)
  expected = r"^[^:]*: a checkpoint could not be saved: [^:;]*No space left[^:;]*; there is no complete one$"
  with pytest.raises(CheckpointError, match=expected):
    try:
      checkpoints.save(1, state, {"config": {}})
    finally:
      checkpoints.close()
  close()
