"""The weights that are shipped with the package: aim/weights."""

import numpy as np
import pytest

import aim
from aim import weights


@pytest.mark.parametrize("name", weights.names())
def test_shipped_weights_are_small_and_say_what_they_are(name):
  folder = weights.folder(name)
  assert (folder / "model.safetensors").stat().st_size <= 4_000_000
  card = (folder / "README.md").read_text()
  for heading in ("Trained on", "Scores on people never seen", "How sure it is", "What it is not for", "Licence"):
    assert f"\n## {heading}\n" in card
  assert "/tmp" not in (folder / "config.json").read_text(), "nothing of the machine that trained them"


def test_a_day_of_a_strangers_watch_is_filled_and_embedded():
  """Two of nineteen channels under other names, by the minute: a heart rate that rises and falls once, and steps."""
  model = aim.load("lsm2-watch-xs")
  minutes = np.arange(1440)
  heart_rate = 75 - 15 * np.cos(2 * np.pi * minutes / 1440)
  day = np.stack([heart_rate, 5.0 * (heart_rate > 75)], axis=-1).astype(np.float32)[None]
  hidden = day.copy()
  hidden[:, 600:630, 0] = np.nan
  filled = model.impute(hidden, channels=["pulse", "steps"], minutes_per_step=1)
  np.testing.assert_array_equal(filled[~np.isnan(hidden)], hidden[~np.isnan(hidden)])
  assert np.abs(filled - day)[:, 600:630, 0].max() < 8  # half an SD of the training data
  embedding = model.embed(hidden, channels=["pulse", "steps"], minutes_per_step=1)
  assert embedding.shape == (1, 128) and np.isfinite(embedding).all()
  other_order = model.embed(hidden[..., ::-1], channels=["steps", "pulse"], minutes_per_step=1)
  np.testing.assert_array_equal(embedding, other_order)
