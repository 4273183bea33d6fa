"""Settings of --mode=robustness remove sensors for the whole day, and each quarter of the day once."""

import numpy as np
import pytest

from aim.evaluation.probing import sensor_dropout
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.schema import Channel, Schema


def schema_of(*sensors: str) -> Schema:
  return Schema(60, tuple(Channel(f"c{i}", sensor=sensor) for i, sensor in enumerate(sensors)))


@pytest.mark.parametrize(
  "schema, sensor_settings",
  [
    (schema_of(""), 0),
    (schema_of("A", "A"), 2),  # one sensor, whose channels are removed one by one
    (schema_of(*4 * [""]), 8),
    (schema_of(*8 * [""]), 8),
    (schema_of(*34 * [""]), 8),
    (LSM2_SCHEMA, 8),
  ],
)
def test_settings_of_a_schema(schema, sensor_settings):
  settings = sensor_dropout.removals(schema)
  assert settings == sensor_dropout.removals(schema)
  assert len(settings) == sensor_settings + 4 and len({setting.name for setting in settings}) == len(settings)
  days = np.ones((2, schema.steps, len(schema.channels)), np.float32)
  for setting in settings[:sensor_settings]:
    lost = np.isnan(setting(days))
    assert (lost == lost[:1, :1]).all() and 0 < lost[0, 0].sum() < len(schema.channels)
  quarters = [np.isnan(setting(days)) for setting in settings[sensor_settings:]]
  assert all((quarter == quarter[:1, :, :1]).all() for quarter in quarters)
  assert (np.sum(quarters, axis=0) == 1).all()  # every step once
  assert (days == 1).all()


def test_every_sensor_of_the_watch_is_removed_once():
  names = [setting.name for setting in sensor_dropout.removals(LSM2_SCHEMA)]
  assert names[:5] == ["PPG", "ACC", "ALT", "EDA", "TEMP"]
  assert all(" + " in name for name in names[5:8]) and names[8:] == ["0-6 h", "6-12 h", "12-18 h", "18-24 h"]
  ppg = sensor_dropout.removals(LSM2_SCHEMA)[0]
  assert [LSM2_SCHEMA.channels[c].sensor for c in ppg.channels] == ["PPG"] * 10
