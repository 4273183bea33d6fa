"""Files of one person that disagree, times with offsets, and clocks of twelve hours: one rule each, and it is told."""

import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.labels_csv import load_events
from tests.robustness.imported_days import import_days

WHY = "another file has another value for the same time"


def tables(folder, **files):
  """A folder of tables of kim, a row a text."""
  (folder / "kim").mkdir()
  for name, rows in files.items():
    (folder / "kim" / f"{name}.csv").write_text("\n".join(["participant,time,end,channel,value", *rows]) + "\n")
  return folder / "kim"


def test_the_last_file_by_name_counts_and_what_does_not_is_counted_with_an_example(tmp_path):
  rows = lambda steps, pulse: [
    f"kim,2024-06-04 08:00:00,,steps,{steps}",
    f"kim,2024-06-04 08:00:00,,heart_rate,{pulse}",
    "kim,2024-06-04 08:05:00,,steps,7",
  ]
  alone = "kim,2024-06-04 08:10:00,,steps,9"
  folder = tables(tmp_path, june=[*rows(24.9, 60), alone], july=rows(25, 70))
  imported = import_days(folder)
  assert imported.of("steps") == pytest.approx({"08:00": 24.9, "08:05": 7, "08:10": 9})
  assert imported.of("heart_rate") == {"08:00": 60}
  assert imported.dropped == {WHY: 2, "exact duplicate": 1}
  (told,) = [line for line in imported.lines if WHY in line]
  assert told.endswith(f"(first: heart_rate at 2024-06-04 08:00:00: {folder}/june.csv counts, not {folder}/july.csv)")


def test_readings_of_one_time_in_one_file_and_counts_over_a_span_follow_their_own_rules(tmp_path):
  span = "kim,2024-06-04 09:00:00,2024-06-04 09:01:00,steps,{}"
  pulse = "kim,2024-06-04 08:00:00,,heart_rate,{}"
  old = [span.format(30), pulse.format(50)]
  folder = tables(tmp_path, a=old, b=[span.format(20), pulse.format(60), pulse.format(64), pulse.format(50)])
  imported = import_days(folder)
  assert imported.of("steps") == {"09:00": 30}, "the larger count"
  assert imported.of("heart_rate") == {"08:00": 58}, "the mean of the last file"
  assert imported.dropped == {"counted again for the same time": 1, "exact duplicate": 1}
  told = "3 heart_rate readings of one time in one file, combined by the rule mean"
  assert f"note: {told} (first: {folder}/b.csv at 2024-06-04 08:00:00)" in imported.lines
  assert f'kim,3,"note: {told[2:]}",{folder}/b.csv at 2024-06-04 08:00:00' in imported.account_csv


def test_an_offset_is_the_wall_clock_where_the_wearer_was_for_readings_and_events(tmp_path):
  rows = ["kim,2024-03-05T11:00:00+09:00,,heart_rate,60", "kim,2024-03-05T11:30:00+01:00,,spo2,97"]
  folder = tables(tmp_path, a=[*rows, "kim,2024-03-05T11:00:00Z,,steps,5"])
  (tmp_path / "events.csv").write_text(
    "participant,start,end,name\nkim,2024-03-05T11:00+09:00,2024-03-05T12:00+09:00,nap\n"
    "kim,2024-03-05T14:00+01:00,2024-03-05T15:00+01:00,run\nkim,2024-03-05T11:00Z,2024-03-05T12:00Z,walk\n"
  )
  imported = import_days(folder, timezone="Europe/Berlin", events=load_events(tmp_path / "events.csv"))
  assert imported.of("heart_rate") == {"11:00": 60} and imported.of("spo2") == {"11:30": 97}
  assert imported.of("steps") == {"12:00": 5}
  assert {event.name: event.start // 60 for event in imported.events} == {"nap": 11, "run": 14, "walk": 12}
  text = "\n".join(imported.lines)
  assert "heart_rate: in UTC with offsets in the export, which count where they are not those of Europe/Berlin" in text
  assert "spo2: in UTC with offsets in the export; first" in text
  assert "--events has 1 event with offsets that are not the time zone's (kim 'nap'): the offsets count" in text


@pytest.mark.parametrize("hours", [12, 24])
def test_a_clock_of_twelve_hours_is_told(tmp_path, hours):
  show = lambda minute: f"{(minute // 60 - 1) % 12 + 1 if hours == 12 else minute // 60:02d}:{minute % 60:02d}"
  rows = [f"kim,2024-06-04 {show(minute)},,heart_rate,{60 + minute // 60}" for minute in range(0, 1440, 10)]
  told = "all times are from 01:00 to 12:59, and most occur twice: probably a 12-hour clock without AM and PM"
  assert (told in "\n".join(import_days(tables(tmp_path, a=rows)).lines)) == (hours == 12)


def test_files_with_a_clock_of_twelve_hours_are_counted_and_not_their_people(tmp_path):
  show = lambda minute: f"{(minute // 60 - 1) % 12 + 1:02d}:{minute % 60:02d}"
  rows = [
    f"{who},2024-06-04 {show(minute)},,heart_rate,{60 + minute // 60}" for who in "abc" for minute in range(0, 1440, 10)
  ]
  lines = import_days(tables(tmp_path, a=rows, b=["d,2024-06-05 08:00:00,,heart_rate,60"])).lines
  assert [line[:27] for line in lines if "12-hour clock" in line] == ["note: 1 file: all times are"]


def test_an_event_that_is_given_twice_counts_once_and_is_told(tmp_path):
  folder = tables(tmp_path, a=["kim,2024-06-04 08:00:00,,heart_rate,60"])
  nap = "kim,2024-06-04T11:00,2024-06-04T12:00,nap\n"
  (tmp_path / "events.csv").write_text("participant,start,end,name\n" + 3 * nap + nap.replace("nap", "run"))
  imported = import_days(folder, events=load_events(tmp_path / "events.csv"))
  assert [event.name for event in imported.events] == ["nap", "run"]
  assert "--events has 2 events more than once, each of which counts once" in imported.lines


def test_a_format_of_twelve_hours_needs_am_and_pm():
  with pytest.raises(SchemaError, match="has %I, hours of a 12-hour clock, without %p, AM or PM"):
    LongTable(time_format="%d/%m/%Y %I:%M")
  LongTable(time_format="%d/%m/%Y %I:%M %p")
