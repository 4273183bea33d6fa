"""One damaged part of an export costs that part: it is counted and named, and the rest is read; --strict refuses.

The values of each part are written here and looked for in the dataset's account and days, so no reader is its own
judge.
"""

import csv
import gzip
import io
import json

import pytest

from tests.data_pipelines.ingest.long_tables import run_build

MINUTES = 5


def beats(day, first=60):
  """A Fitbit file of five heart rates, one per minute from 08:00 UTC."""
  return json.dumps(
    [{"dateTime": f"06/{day:02d}/24 08:0{n}:05", "value": {"bpm": first + n, "confidence": 2}} for n in range(MINUTES)]
  )


def write(folder, files):
  for name, content in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return folder


def build(folder, source, *flags):
  """Builds; the exit code."""
  where = [f"--source={source}", f"--input={folder}", f"--data_dir={folder.parent / 'data'}", "--name=mine"]
  return run_build(*where, "--timezone=UTC", "--max_missing=1", "--split=1,0,0", *flags)


def account(folder):
  [path] = (folder.parent / "data").glob("day_windows/mine/*/account.csv")
  return [tuple(row) for row in csv.reader(io.StringIO(path.read_text()))][1:]


FITBIT = "Takeout/Fitbit/Global Export Data/heart_rate-2024-06-{:02d}.json"
SAMSUNG = "samsunghealth_x/com.samsung.shealth.tracker.heart_rate.20240701.csv"
SAMSUNG_COLUMNS = ("start_time", "binning_data", "time_offset", "deviceuuid", "end_time", "heart_rate")
BINS = "samsunghealth_x/jsons/com.samsung.shealth.tracker.heart_rate/c/cc.binning_data.json"


def samsung(*rows):
  header = ",".join(f"com.samsung.health.heart_rate.{column}" for column in SAMSUNG_COLUMNS)
  return "\n".join(["com.samsung.shealth.tracker.heart_rate,1,5", header, *rows, ""])


def bins(n):
  start = 1717480800000  # 2024-06-04 06:00 UTC
  times = range(start, start + n * 60_000, 60_000)
  entries = [{"start_time": t, "end_time": t + 59_999, "heart_rate": 65.0 + k % 100} for k, t in enumerate(times)]
  return json.dumps(entries).encode()


BINNED = "2024-06-04 06:00:00.000,cc.binning_data.json,UTC+0000,dev1,2024-06-04 06:59:00.000,70.0,"
PLAIN = "2024-06-04 08:00:00.000,,UTC+0000,dev1,2024-06-04 08:00:00.000,71.0,"
TABLE = "participant,time,heart_rate\n" + "".join(f"anna,2024-06-04 08:0{n}:00,{60 + n}\n" for n in range(MINUTES))
FITABASE = "Id,ActivityMinute,Steps\n" + "".join(f"7,6/4/2024 8:0{n}:00 AM,{n}\n" for n in range(MINUTES))

# source, files, rows kept, and what account.csv says of each damaged part: outcome, rows, and the end of its place.
CASES = {
  "an empty file": (
    "fitbit",
    {FITBIT.format(4): beats(4), FITBIT.format(5): ""},
    5,
    [(1, "heart_rate-2024-06-05.json: empty")],
  ),
  "a cut file": ("fitbit", {FITBIT.format(4): beats(4), FITBIT.format(5): beats(5)[:-8]}, 9, [(1, "06-05.json row 5")]),
  "a broken item": (
    "fitbit",
    {FITBIT.format(4): beats(4).replace('"bpm": 62', '"bpm": 6x')},
    4,
    [(1, "heart_rate-2024-06-04.json row 3")],
  ),
  "no JSON at all": (
    "fitbit",
    {FITBIT.format(4): beats(4), FITBIT.format(5): "<html>"},
    5,
    [(1, "06-05.json: not a JSON array")],
  ),
  "gzip under another name": ("samsung", {SAMSUNG: samsung(BINNED, PLAIN), BINS: gzip.compress(bins(5))}, 6, []),
  "gzip cut off": (
    "samsung",
    {SAMSUNG: samsung(BINNED, PLAIN), BINS: gzip.compress(bins(400))[:-20]},
    None,
    [(1, "cc.binning_data.json row ")],
  ),
  "bins that are none": (
    "samsung",
    {SAMSUNG: samsung(BINNED, PLAIN), BINS: '{"a": 1}'},
    1,
    [(1, "cc.binning_data.json: not a JSON array")],
  ),
  "a bad byte in a table": (
    "long_table",
    {"t/study.csv": TABLE.encode() + b"anna,2024-06-04 08:07:00,7\xff\nanna,2024-06-04 08:09:00,77\n"},
    6,
    [(1, "study.csv row 7")],
  ),
  "zeros behind a table": ("long_table", {"t/study.csv": TABLE.encode() + bytes(300)}, 5, [(1, "study.csv row 7")]),
  "a cut row of a table": ("long_table", {"t/study.csv": TABLE + "anna,2024-06-0"}, 5, [(1, "study.csv row 7")]),
  "a unit that nobody knows": (
    "long_table",
    {
      "t/study.csv": "participant,time,channel,value,unit\n"
      "anna,2024-06-04 08:00:00,heart_rate,60,bpm\nanna,2024-06-04 08:01:00,heart_rate,61,furlong\n"
    },
    1,
    [(1, "study.csv: heart_rate: unit is 'furlong', expected 'bpm' or a unit that converts to it")],
  ),
  "a ragged row of Fitabase": (
    "fitabase",
    {"f/minuteStepsNarrow_merged.csv": FITABASE + "7,6/4/2024 8:05:00 AM\n7,6/4/2024 8:06:00 AM,9\n"},
    6,
    [(1, "minuteStepsNarrow_merged.csv row 7")],
  ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_part_is_counted_and_named_and_the_rest_is_read(tmp_path, case, capsys):
  source, files, kept, damage = CASES[case]
  folder = write(tmp_path / "in", files)
  assert build(folder, source) == 0, capsys.readouterr().err
  lines = account(folder)
  if kept is not None:
    assert sum(int(rows) for _, rows, outcome, _ in lines if outcome == "kept") == kept
  damaged = [
    (int(rows), first) for _, rows, outcome, first in lines if not outcome.startswith(("read", "kept", "clock: "))
  ]
  assert len(damaged) == len(damage)
  for (rows, first), (expected, end) in zip(damaged, damage, strict=True):
    assert rows == expected and end in first and (end[-1] == " " or first.endswith(end))
    assert first in capsys.readouterr().out


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][3]])
def test_strict_refuses_the_same_part_by_name(tmp_path, case, capsys):
  source, files, _, [(_, end)] = CASES[case]
  folder = write(tmp_path / "in", files)
  assert build(folder, source, "--strict") == 2
  error = capsys.readouterr().err
  assert end in error and error.count("\n") == 1
  assert not (tmp_path / "data" / "day_windows").exists()


def test_an_input_that_is_damaged_throughout_is_refused_with_its_first_fault(tmp_path, capsys):
  folder = write(tmp_path / "in", {FITBIT.format(4): "", FITBIT.format(5): "{"})
  assert build(folder, "fitbit") == 2
  assert capsys.readouterr().err == (f"error: {folder}/{FITBIT.format(4)}: empty; and 1 more\n")
