"""Calibration by gravity: what a device with known faults measures is brought back to the truth."""

import numpy as np
import pytest

from data_pipelines.ingest.importers.accelerometers.calibration import fit
from tests.data_pipelines.ingest.importers.accelerometers import gt3x_files
from tests.data_pipelines.ingest.importers.accelerometers.test_accelerometer import EIGHT, read

GAIN, OFFSET = np.array([1.03, 0.97, 1.01]), np.array([0.04, -0.03, 0.02])


def positions(number):
  """Directions of gravity [number, 3] in all parts of the sphere, and what the device measures of them."""
  directions = np.random.default_rng(0).normal(size=(number, 3))
  directions /= np.sqrt((directions**2).sum(axis=1, keepdims=True))
  return directions, (directions - OFFSET) / GAIN


def test_gain_and_offset_are_found():
  directions, measured = positions(400)
  noise = np.random.default_rng(1).normal(0, 0.002, measured.shape)
  found = fit(measured + noise)
  assert found.gain == pytest.approx(GAIN, abs=2e-3) and found.offset == pytest.approx(OFFSET, abs=2e-3)
  assert found.applied(measured) == pytest.approx(directions, abs=4e-3)


@pytest.mark.parametrize("few", ("windows", "positions", "sphere"))
def test_too_little_rest_gives_no_calibration(few):
  _, measured = positions(400)
  points = {
    "windows": measured[:30],
    "positions": np.abs(measured),
    "sphere": measured * np.linspace(0.5, 1.5, 400)[:, None],
  }
  assert fit(points[few]) is None


def test_enmo_of_rest_is_zero_only_once_it_is_calibrated(tmp_path):
  _, measured = positions(120)
  seconds = np.round(256 * measured).astype(int).repeat(20, axis=0)[:, None].repeat(30, axis=1)  # 20 s in each position
  gt3x_files.write(tmp_path / "kim.gt3x", gt3x_files.log_of(EIGHT, seconds), rate=30)
  found, account = read(tmp_path)
  assert len(found["kim", "enmo"]) == 40 and max(found["kim", "enmo"].values()) < 4 and not account.remarks
  upright = seconds[seconds[:, 0, 2] > 0][: 20 * 30]
  gt3x_files.write(tmp_path / "kim.gt3x", gt3x_files.log_of(EIGHT, upright), rate=30)
  found, account = read(tmp_path)
  in_g = upright.reshape(10, -1, 3) / 256
  expected = 1000 * np.maximum(np.sqrt((in_g**2).sum(axis=2)) - 1, 0).mean(axis=1)
  assert list(found["kim", "enmo"].values()) == pytest.approx(expected.tolist())
  assert {text for _, text in account.remarks} == {
    "ENMO of a recording that rests in too few positions to be calibrated"
  }
