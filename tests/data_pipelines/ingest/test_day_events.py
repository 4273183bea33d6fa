"""Stretches of time become events of the days that they touch."""

import zoneinfo

import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.day_events import events_on_days, number_days
from data_pipelines.ingest.reading.readings import Stretch
from data_pipelines.source import Event
from tests.data_pipelines.ingest.gridding.made_readings import ms

DAYS = number_days(["2024-03-04", "2024-03-05", "2024-03-08"])


def test_days_are_numbered_from_the_first():
  assert DAYS == {"2024-03-04": 0, "2024-03-05": 1, "2024-03-08": 4}


def test_a_stretch_over_midnight_touches_two_days():
  stretch = Stretch("p", "walk", ms("2024-03-04T23:52"), ms("2024-03-05T00:06"), clock="wall")
  assert list(events_on_days(stretch, None, DAYS, 5)) == [
    Event("p", 0, "2024-03-04", 286, 288, "walk"),
    Event("p", 1, "2024-03-05", 0, 2, "walk"),
  ]


def test_days_that_are_not_built_have_no_events():
  stretch = Stretch("p", "trip", ms("2024-03-05T12:00"), ms("2024-03-08T00:00"), clock="wall")
  assert [event.date for event in events_on_days(stretch, None, DAYS, 60)] == ["2024-03-05"]
  years = Stretch("p", "life", ms("2020-01-01T00:00"), ms("2030-01-01T00:00"), clock="wall")
  assert list(events_on_days(years, None, DAYS, 60)) == []


def test_times_in_utc_need_an_offset_or_a_zone():
  stretch = Stretch("p", "run", ms("2024-03-04T10:00"), ms("2024-03-04T11:00"))
  with pytest.raises(SchemaError, match="events 'run': times are in UTC; give the person's time zone"):
    list(events_on_days(stretch, None, DAYS, 60))
  (event,) = events_on_days(stretch, zoneinfo.ZoneInfo("Asia/Tokyo"), DAYS, 60)
  assert (event.start, event.end) == (19, 20)
  ahead = Stretch("p", "run", stretch.start, stretch.end, offset=-120)
  (event,) = events_on_days(ahead, zoneinfo.ZoneInfo("Asia/Tokyo"), DAYS, 60)
  assert (event.start, event.end) == (8, 9)
