"""The step benchmarks' processes read inputs as they were written, and take turns; PyTorch peers: test_torch_aim.py."""

import numpy as np
import pytest

from aim.model.masking import TokenSet
from benchmarks import workers


def test_inputs_are_read_as_they_were_written(tmp_path):
  workers.write_inputs(tmp_path / "inputs.npz", "tiny", 3)
  with np.load(tmp_path / "inputs.npz") as file:
    arrays = dict(file)
  tokens = TokenSet(**workers.part(arrays, "0"))
  assert len(tokens.order) == 3 and tokens.target.any() and tokens.context is None


@pytest.mark.slow
def test_our_steps_take_turns():
  names = ("all", "refined")
  specs = [
    {"framework": "jax", "form": "trimmed", "dtype": "float32", "options": {"model.decoder.tokens": name}}
    for name in names
  ]
  rows = workers.measure(specs, "tiny", batch=3, repeats=3)
  assert [row["error"] for row in rows] == ["", ""] and all(row["median_s"] > 0 for row in rows)
