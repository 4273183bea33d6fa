"""Many saves in one process: aim/training/checkpoint.py."""

import threading

import jax.numpy as jnp

from aim.training.checkpoint import Checkpoints


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
