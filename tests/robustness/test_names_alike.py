"""Names that differ in case, spaces or Unicode form only never make two people or two channels of one, in any input."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.labels_csv import ParticipantTable, load_events
from data_pipelines.npz import NpzSource, read_days
from data_pipelines.schema import Channel, Schema
from data_pipelines.text_files import check_names, folded
from tests.data_pipelines.ingest.long_tables import run_build

ALIKE = [("kim", "Kim"), ("kim", "kim "), ("josé", "jose\u0301"), ("kim", "k\u200bim"), ("an na", "an  na")]
LINE = "differ only in case, spaces or Unicode form|has spaces around it"


def npz(path, participant=("kim", "lee"), channels=("heart_rate", "steps"), labels=None):
  arrays = dict(
    values=np.ones((2, 24, 2), np.float32),
    channels=np.array(channels),
    participant=np.array(participant),
    day=np.arange(2),
    date=np.array(["", ""]),
    minutes_per_step=np.array(60),
  )
  np.savez(path, **arrays, **({"labels": np.array(json.dumps(labels))} if labels else {}))
  return path


def refusal(*flags, capsys):
  code = run_build("--dry_run", *flags)
  error = capsys.readouterr().err
  assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
  return error


def table(path, people=("kim", "lee"), channels=("heart_rate", "heart_rate"), header="participant,time,channel,value"):
  rows = [
    f"{who},2024-03-04T{hour:02}:00,{channel},60"
    for who, channel in zip(people, channels, strict=True)
    for hour in range(24)
  ]
  path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
  return path


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_people_and_channels_of_arrays(tmp_path, first, second):
  for changes, key in (
    ({"participant": (first, second)}, "participant"),
    ({"channels": (first, second)}, "channel"),
    ({"labels": {"kim": {first: 1, second: 2}}}, "label"),
    ({"labels": {"kim": {first: 1}, "lee": {second: 2}}}, "label"),
  ):
    path = npz(tmp_path / "days.npz", **changes)
    with pytest.raises(SchemaError, match=LINE) as caught:
      NpzSource(path)
    assert key in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_empty_names_of_arrays(tmp_path):
  for name in "", " ":
    with pytest.raises(SchemaError, match="key 'labels': a label has an empty name"):
      NpzSource(npz(tmp_path / "days.npz", labels={"kim": {name: 1}}))
  assert read_days(npz(tmp_path / "days.npz")).participant.tolist() == ["kim", "lee"]


@pytest.mark.parametrize(("first", "second"), [pair for pair in ALIKE if pair[0] != pair[1].strip()])
def test_people_and_channels_of_long_tables(tmp_path, first, second, capsys):
  flags = ["--source=long_table", "--minutes_per_step=60"]
  error = refusal(*flags, f"--input={table(tmp_path / 'a.csv', people=(first, second))}", capsys=capsys)
  assert "a.csv: participant" in error and "differ only in case" in error
  error = refusal(*flags, f"--input={table(tmp_path / 'b.csv', ('kim', 'lee'), (first, second))}", capsys=capsys)
  assert "b.csv: channel" in error and "differ only in case" in error
  names = pa.table({"participant": [first, second], "time": ["2024-03-04"] * 2, "steps": [1.0, 2.0]})
  pq.write_table(names, tmp_path / "c.parquet")
  assert "differ only in case" in refusal(*flags, f"--input={tmp_path / 'c.parquet'}", capsys=capsys)


def test_people_of_two_exports(tmp_path, capsys):
  for person in "Kim", "kim":
    (tmp_path / "all" / person).mkdir(parents=True)
    (tmp_path / "all" / person / "day.csv").write_text("time,channel,value\n2024-03-04T08:00,heart_rate,60\n")
  flags = ["--source=long_table", "--minutes_per_step=60", "--person_by=folder", f"--input={tmp_path / 'all'}"]
  assert "participant 'Kim' and 'kim' differ only in case" in refusal(*flags, capsys=capsys)


def test_people_of_accompanying_files(tmp_path, capsys):
  study = table(tmp_path / "study.csv")
  flags = ["--source=long_table", "--minutes_per_step=60", f"--input={study}"]
  (tmp_path / "labels.csv").write_text("participant,age\nKim,30\nlee,40\n")
  (tmp_path / "events.csv").write_text("participant,start,end,name\nLEE,2024-03-04T01:00,2024-03-04T02:00,nap\n")
  error = refusal(*flags, f"--participants={tmp_path / 'labels.csv'}", capsys=capsys)
  assert "--participants: participant 'Kim' and 'kim' differ only in case" in error
  error = refusal(*flags, f"--events={tmp_path / 'events.csv'}", capsys=capsys)
  assert "--events: participant 'LEE' and 'lee' differ only in case" in error


@pytest.mark.parametrize(
  ("load", "text", "message"),
  [
    (ParticipantTable.load, "participant,age\nA,1\na,2\n", "participant 'A' and 'a' differ only"),
    (ParticipantTable.load, "participant,Age,age\nA,1,2\n", "label 'Age' and 'age' differ only"),
    (ParticipantTable.load, "participant,Timezone\nA,Asia/Tokyo\n", "column 'Timezone' is nearly 'timezone'"),
    (ParticipantTable.load, "participant,time zone\nA,Asia/Tokyo\n", "column 'time zone' is nearly 'timezone'"),
    (ParticipantTable.load, "participant,TIME_ZONE\nA,Asia/Tokyo\n", "column 'TIME_ZONE' is nearly 'timezone'"),
    (load_events, "participant,start,end,name,Value\nA,2024-03-04,2024-03-05,nap,0\n", "'Value' is nearly 'value'"),
    (load_events, "participant,start,end,name\nA,2024-03-04,2024-03-05,nap\nA,2024-03-04,2024-03-05,Nap\n", "'Nap'"),
  ],
)
def test_columns_and_rows_of_accompanying_files(tmp_path, load, text, message):
  path = tmp_path / "file.csv"
  path.write_text(text)
  with pytest.raises(SchemaError, match=message) as caught:
    load(path)
  assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
  ("header", "column"),
  [
    ("participant,time,channel,value,Unit", "Unit"),
    ("participant,time,heart_rate,Device", "Device"),
    ("participant,time,heart_rate,End", "End"),
  ],
)
def test_columns_of_long_tables(tmp_path, header, column, capsys):
  (tmp_path / "study.csv").write_text(f"{header}\n" + ",".join(["kim", "2024-03-04", "heart_rate", "60", "1"]) + "\n")
  error = refusal("--source=long_table", f"--input={tmp_path / 'study.csv'}", capsys=capsys)
  assert f"study.csv: column {column!r} is nearly {column.lower()!r}" in error


def test_a_schema_has_no_channels_alike():
  for first, second in ALIKE:
    with pytest.raises(SchemaError, match=LINE):
      Schema(60, (Channel(first), Channel(second)))


words = st.text("abc1_- ", min_size=1, max_size=8).map(lambda text: " ".join(text.split()))


@given(words, words)
def test_folding_joins_no_names_that_differ_in_letters(first, second):
  assert (folded(first) == folded(second)) == (first == second)
  assert folded(f" {first.upper()}\u200b ") == folded(first)


def test_clear_names_pass():
  check_names(["kim", "kim1", "josé", "jose", "kim", "P-01", "P01"], "participant", "here")


def test_an_event_of_a_stranger_is_told_as_that(tmp_path, capsys):
  (tmp_path / "events.csv").write_text("participant,start,end,name\nzoe,2024-03-04T01:00,2024-03-04T02:00,nap\n")
  flags = ["--dry_run", "--source=long_table", "--minutes_per_step=60", f"--input={table(tmp_path / 'study.csv')}"]
  assert run_build(*flags, f"--events={tmp_path / 'events.csv'}") == 0
  assert "note: --events names 1 person without a reading (zoe)" in capsys.readouterr().out
