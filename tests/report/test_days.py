"""Example days are drawn whatever their channels."""

import numpy as np

from aim.report import days
from data_pipelines.page import chart
from data_pipelines.schema import Channel, Schema


def test_a_channel_without_sensor_or_unit_is_drawn():
  schema = Schema(60, (Channel("a"), Channel("b", kind="binary")))
  values = np.ones((24, 2), np.float32)
  values[3:9, 0] = np.nan
  drawn = days.DrawnDay("t", values, values, np.zeros((24, 2), np.uint8), {})
  with chart.style():
    made = days.day_figure(schema, drawn, "day")
    assert "minutes missing" in made.columns and "var(--cause0)" in made.svg
