"""Small Fitabase files in the form of its public sample; every value is compared with what pandas reads."""

import io
import json
import pickle
import zipfile

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from data_pipelines import build
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.fitabase import Fitabase
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.input_files import ExportSet
from data_pipelines.loader import eval_loader

FOLDER = "Fitabase Data 4.12.16-5.12.16"
NARROW = "Id,ActivityMinute,Steps\n1503960366,4/12/2016 12:00:00 AM,0\n1503960366,4/12/2016 12:01:00 AM,15\n"
FILES = {
  "minuteStepsNarrow_merged.csv": NARROW + "4020332650,4/12/2016 1:05:00 PM,7\n",
  "minuteStepsWide_merged.csv": "Id,ActivityHour," + ",".join(f"Steps{i:02d}" for i in range(60)) + "\n"
  "1503960366,4/12/2016 12:00:00 AM,0,15" + ",0" * 58 + "\n",
  "minuteIntensitiesWide_merged.csv": "Id,ActivityHour," + ",".join(f"Intensity{i:02d}" for i in range(60)) + "\n"
  "1503960366,4/13/2016 11:00:00 PM," + ",".join(str(i % 4) for i in range(60)) + "\n",
  "minuteCaloriesNarrow_merged.csv": "Id,ActivityMinute,Calories\n"
  "1503960366,4/12/2016 12:00:00 AM,0.786499977111816\n1503960366,4/12/2016 12:01:00 AM,2.83139991760254\n",
  "minuteMETsNarrow_merged.csv": "Id,ActivityMinute,METs\n1503960366,4/12/2016 12:00:00 AM,10\n"
  "1503960366,4/12/2016 12:01:00 AM,36\n",
  "heartrate_seconds_merged.csv": "Id,Time,Value\n2022484408,4/12/2016 7:21:00 AM,97\n"
  "2022484408,4/12/2016 7:21:05 AM,102\n2022484408,4/12/2016 12:00:10 PM,105\n",
  "minuteSleep_merged.csv": "Id,date,value,logId\n1503960366,4/12/2016 2:47:30 AM,3,11380564589\n"
  "1503960366,4/12/2016 2:48:30 AM,2,11380564589\n1503960366,4/12/2016 2:49:30 AM,1,11380564589\n",
  "sleepDay_merged.csv": "Id,SleepDay,TotalSleepRecords\n1503960366,4/12/2016 12:00:00 AM,1\n",
}


@pytest.fixture(params=["folder", "zip"])
def export(request, tmp_path):
  if request.param == "folder":
    return written(tmp_path, FILES)
  with zipfile.ZipFile(tmp_path / "study.zip", "w") as file:
    for name, text in FILES.items():
      file.writestr(f"{FOLDER}/{name}", text)
  return Export(tmp_path / "study.zip")


def written(tmp_path, files, encoding="utf-8"):
  (tmp_path / FOLDER).mkdir(exist_ok=True)
  for name, text in files.items():
    (tmp_path / FOLDER / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
  return Export(tmp_path)


def read(export, *kinds, strict=False):
  """Readings of the files of these kinds (of all files if none are given), as one table, and the account."""
  importer, account = Fitabase(), Account(strict)
  names = [name for name in importer.files(export) if not kinds or any(kind in name for kind in kinds)]
  blocks = [block for name in names for block in importer.read(export, name, account)]
  signals = {signal.name for signal in importer.signals}
  assert all(block.signal in signals and block.clock == "wall" and block.offset is None for block in blocks)
  columns = ["participant", "signal", "unit", "device", "start", "end", "value"]
  return pd.concat(
    [pd.DataFrame({column: getattr(block, column) for column in columns}) for block in blocks], ignore_index=True
  ) if blocks else pd.DataFrame(columns=columns), account


def expected(name, time, value):
  table = pd.read_csv(io.StringIO(FILES[name]), dtype={"Id": str})
  clock = pd.to_datetime(table[time], format="%m/%d/%Y %I:%M:%S %p")
  return table["Id"].tolist(), clock.astype("datetime64[ms]").astype("int64").tolist(), table[value].tolist()


@pytest.mark.parametrize(
  ("name", "time", "value", "signal", "unit", "lasts", "factor"),
  [
    ("minuteStepsNarrow_merged.csv", "ActivityMinute", "Steps", "steps", "steps", 60_000, 1),
    ("minuteCaloriesNarrow_merged.csv", "ActivityMinute", "Calories", "calories", "kcal", 60_000, 1),
    ("minuteMETsNarrow_merged.csv", "ActivityMinute", "METs", "mets", "MET", 60_000, 10),
    ("heartrate_seconds_merged.csv", "Time", "Value", "heart_rate", "bpm", 0, 1),
  ],
)
def test_narrow_files(export, name, time, value, signal, unit, lasts, factor):
  table, account = read(export, name)
  people, start, values = expected(name, time, value)
  assert table.participant.tolist() == people and table.start.tolist() == start
  assert table.value.tolist() == [v / factor for v in values]
  assert set(table.signal) == {signal} and set(table.unit) == {unit}
  assert (table.end - table.start == lasts).all()
  assert sum(account.read.values()) == len(people) and not account.dropped


def test_wide_files(export):
  table, account = read(export, "IntensitiesWide")
  start = pd.Timestamp("2016-04-13 23:00").value // 10**6
  assert table.start.tolist() == [start + 60_000 * i for i in range(60)]
  assert table.value.tolist() == [i % 4 for i in range(60)] and set(table.signal) == {"intensity"}
  assert account.read == {"1503960366": 60} and not account.dropped


def test_the_wide_twin_of_a_narrow_file_is_counted_and_not_read(export):
  table, account = read(export, "minuteSteps")
  assert table.value.tolist() == [0, 15, 7]
  assert account.read == {"1503960366": 62, "4020332650": 1}
  assert account.dropped == {("1503960366", "the same minutes in minuteStepsNarrow"): 60}


def test_a_wide_file_of_another_month_is_read(tmp_path):
  files = {"a_minuteStepsNarrow_1_2.csv": NARROW, "a_minuteStepsWide_3_4.csv": FILES["minuteStepsWide_merged.csv"]}
  assert len(read(written(tmp_path, files))[0]) == 62


def test_sleep(export):
  table, _ = read(export, "minuteSleep")
  first = pd.Timestamp("2016-04-12 02:47:30").value // 10**6
  assert table.start.tolist() == [first, first + 60_000, first + 120_000]
  assert table.value.tolist() == [0, 0, 1] and (table.end - table.start == 60_000).all()


def test_files_of_one_person_without_id(tmp_path):
  text = "LogId,Time,Level,ShortWakes,SleepStage\n1,3/13/2018 11:40:00 PM,light,,light\n"
  text += "1,3/13/2018 11:40:30 PM,light,wake,wake\n1,3/13/2018 11:41:00 PM,rem,,rem\n1,3/13/2018 11:41:30 PM,?,,?\n"
  name = "SP_23_30secondSleepStages_20180301_20180401.csv"
  export = written(tmp_path, {name: text})
  [owner] = Fitabase().owners(export, export.names).values()
  assert owner.subject == "SP_23"  # for the import to say whose it is
  table, account = read(export)
  assert set(table.participant) == {tmp_path.name} and set(table.device) == {"stages"}
  assert table.value.tolist() == [1, 0, 1] and (table.end - table.start == 30_000).all()
  assert account.dropped == {(tmp_path.name, "unreadable SleepStage"): 1}


def test_heart_rates_by_minute_are_read_where_there_are_none_by_second(tmp_path):
  text = "Time,Value\n4/12/2016 7:21:00 AM,97\n"
  minute, second = "P1_heartrate_1min_20160412_20160512.csv", "P1_heartrate_seconds_20160412_20160512.csv"
  assert read(written(tmp_path, {minute: text}))[0].value.tolist() == [97]
  table, account = read(written(tmp_path, {second: text.replace("97", "98")}))
  assert table.value.tolist() == [98]
  assert account.dropped == {(tmp_path.name, "the same minutes in heartrate_seconds"): 1}


def test_bad_rows_are_counted_with_an_example(tmp_path):
  rows = ["4/31/2016 1:00:00 AM,5", "4/12/2016 13:00:00 PM,5", ",5", "4/12/2016 1:00:00 AM,", "4/12/2016 1:00:00 AM,x"]
  rows += ["4/12/2016 1:00:00 AM,inf", "4/12/2016 1:01:00 AM,3"]
  text = "Id,ActivityMinute,Steps\n" + "".join(f"1,{row}\n" for row in rows)
  table, account = read(written(tmp_path, {"minuteStepsNarrow_merged.csv": text}))
  assert table.value.tolist() == [3] and account.read == {"1": 7}
  assert account.dropped == {("1", "unreadable time"): 3, ("1", "unreadable Steps"): 3}
  assert account.example["1", "unreadable time"].endswith("minuteStepsNarrow_merged.csv row 2")
  assert account.example["1", "unreadable Steps"].endswith("minuteStepsNarrow_merged.csv row 5")


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("Id,ActivityMinute\n1,4/12/2016 12:00:00 AM\n", "minuteStepsNarrow_merged.csv: column 'Steps' is missing"),
    ("", "column 'ActivityMinute' is missing"),
    (NARROW.encode("utf-16-le"), "probably UTF-16"),
    (NARROW.encode() + b"\xff\xfe,1,2\n", "not UTF-8"),
    (NARROW + "1,2\n", "row 4: more or fewer fields"),
    (NARROW + '1,"4/12/2016', "minuteStepsNarrow_merged.csv"),
  ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, text, message):
  with pytest.raises(SchemaError, match=message) as error:
    read(written(tmp_path, {"minuteStepsNarrow_merged.csv": text}), strict=True)
  assert "\n" not in str(error.value)


def test_other_folders_are_not_fitabase(tmp_path):
  assert not Fitabase().files(written(tmp_path, {"steps-2020-01-01.json": "[]", "minuteSteps.txt": ""}))


@pytest.mark.parametrize("kind", ["minuteStepsNarrow", "minuteIntensitiesWide", "heartrate_seconds", "minuteSleep"])
@hypothesis.settings(
  max_examples=30, deadline=5000, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(data=st.data())
def test_damage_is_refused_or_survived(tmp_path, kind, data):
  text = bytearray(FILES[f"{kind}_merged.csv"].encode())
  for _ in range(data.draw(st.integers(1, 4))):
    place = data.draw(st.integers(0, len(text)))
    text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
  export = written(tmp_path, {f"{kind}_merged.csv": bytes(text)})
  importer, account = Fitabase(), Account()
  try:
    blocks = list(importer.read(export, f"{FOLDER}/{kind}_merged.csv", account))
  except SchemaError as error:
    assert "\n" not in str(error)
    return
  assert all(np.isfinite(block.value).all() and (block.start <= block.end).all() for block in blocks)
  used = sum(len(block.value) for block in blocks)
  assert used + sum(account.dropped.values()) == sum(account.read.values())


def test_from_files_to_the_loader(tmp_path):
  days, minutes = ("4/12/2016", "4/13/2016"), range(1440)
  rng = np.random.default_rng(0)
  steps, hearts, sleeps, expected = [], [], [], {}
  for person in ("1503960366", "2022484408"):
    for day in days:
      clock = pd.date_range(pd.to_datetime(day, format="%m/%d/%Y"), periods=1440, freq="min")
      texts = [f"{t:%m/%d/%Y %I:%M}" for t in clock]
      count, beats = rng.integers(0, 90, 1440), rng.integers(50, 120, (1440, 2))
      count[600:700] = 0
      steps += [f"{person},{texts[i]}:00 {clock[i]:%p},{count[i]}" for i in minutes]
      hearts += [
        f"{person},{texts[i]}:{s:02d} {clock[i]:%p},{beats[i, s // 35]}"
        for i in minutes
        if not 600 <= i < 700
        for s in (5, 35)
      ]
      sleeps += [f"{person},{texts[i]}:30 {clock[i]:%p},{1 + (i == 100)},7" for i in range(60, 400)]
      expected[person, str(clock[0].date())] = count, beats.mean(axis=1)
  files = {"minuteStepsNarrow_merged.csv": ("Id,ActivityMinute,Steps", steps)}
  files |= {
    "heartrate_seconds_merged.csv": ("Id,Time,Value", hearts),
    "minuteSleep_merged.csv": ("Id,date,value,logId", sleeps),
  }
  written(tmp_path, {name: "\n".join([head, *rows]) + "\n" for name, (head, rows) in files.items()})
  people = {"pretrain": ["1503960366"], "tune": ["2022484408"], "eval": []}
  (tmp_path / "people.json").write_text(json.dumps(people))
  arguments = ["--source=auto", f"--input={tmp_path / FOLDER}", f"--data_dir={tmp_path / 'data'}", "--name=mine"]
  assert build.main(["build", *arguments, f"--split_file={tmp_path / 'people.json'}"]) == 0
  dataset = Dataset.open(tmp_path / "data", "mine")
  assert dataset.schema.names == ("heart_rate", "steps", "asleep")
  days = {}
  for split in ("pretrain", "tune"):
    for batch in eval_loader(dataset, split=split, batch_size=2):
      days |= {(p, d): v for p, d, v in zip(batch["participant"], batch["date"], batch["values"], strict=True) if p}
  assert days.keys() == expected.keys()
  for key, (count, beats) in expected.items():
    heart, step, asleep = days[key].T
    hole = np.arange(600, 700)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(heart)), hole)
    np.testing.assert_allclose(np.delete(heart, hole), np.delete(beats, hole), rtol=1e-6)
    assert np.isnan(step[620:680]).all()  # zeros that the watch wrote while it lay on the table
    np.testing.assert_array_equal(np.delete(step, hole), np.delete(count, hole))
    # Stages are a minute long and start at half past a minute. Where two share a minute, the later one counts, and the
    # last one extends into the next minute.
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(asleep)), np.arange(60, 401))
    assert asleep[60:100].all() and asleep[102:401].all() and not asleep[100]


@pytest.mark.parametrize(
  ("mark", "times"),
  [
    (",", ["4/12/2016 8:00", "4/12/2016 13:01"]),
    (",", ["04/12/2016 08:00:00", "04/12/2016 13:01:00"]),
    (",", ["4/12/2016 8:00 AM", "4/12/2016 1:01 PM"]),
    (";", ["12.04.2016 08:00", "12.04.2016 13:01"]),
    (";", ["12.4.2016 8:00:00", "12.4.2016 13:01:00"]),
    ("\t", ["4/12/2016 8:00:00 AM", "4/12/2016 1:01:00 PM"]),
  ],
)
def test_what_a_spreadsheet_has_saved(tmp_path, mark, times):
  rows = [
    ("Id", "ActivityMinute", "Calories"),
    ("7", times[0], "1.5"),
    ("7", times[1], "2,5" if mark == ";" else "2.5"),
  ]
  rows[1] = (*rows[1][:2], rows[1][2].replace(".", "," if mark == ";" else "."))
  (tmp_path / "minuteCaloriesNarrow_merged (1).csv").write_text("\n".join(map(mark.join, rows)) + "\n")
  account, export = Account(), Export(tmp_path)
  ((name,), importer) = (Fitabase().files(export), Fitabase())
  (block,) = importer.read(export, name, account)
  day = pd.Timestamp("2016-04-12").value // 10**6
  assert ((block.start - day) // 60_000).tolist() == [480, 781] and block.value.tolist() == [1.5, 2.5]
  assert not account.dropped and block.participant == "7"


DAYS_OF_MAY = "".join(f"7,{day:02d}/05/2016 08:00:00,{day}\n" for day in range(1, 32))
STEPS = "Id,ActivityMinute,Steps\n"


def days_of(table):
  return pd.to_datetime(table.start, unit="ms").dt.strftime("%m-%d").tolist()


def test_a_file_with_a_thirteenth_first_has_the_day_first(tmp_path, monkeypatch):
  monkeypatch.setattr("data_pipelines.ingest.reading.csv_batches.BLOCK_BYTES", 64)  # which shows after many batches
  table, account = read(written(tmp_path, {"minuteStepsNarrow_merged.csv": STEPS + DAYS_OF_MAY}))
  assert days_of(table) == [f"05-{day:02d}" for day in range(1, 32)] and table.value.tolist() == [*range(1, 32)]
  assert not account.dropped and account.remarks == {("", "times with the day first, as a day after the 12th shows"): 1}


@pytest.mark.parametrize(("other", "first"), [("13/05/2016 08:00", "05-04"), ("05/13/2016 08:00", "04-05")])
def test_a_file_that_may_have_either_order_has_that_of_the_others(tmp_path, other, first):
  steps = STEPS + "7,04/05/2016 08:00:00,1\n"
  hearts = f"Id,Time,Value\n7,{other}:00,60\n"
  files = {"minuteStepsNarrow_merged.csv": steps, "heartrate_seconds_merged.csv": hearts}
  table, account = read(written(tmp_path, files), "Steps")
  assert days_of(table) == [first] and not account.dropped


def test_a_file_alone_that_may_have_either_order_has_the_month_first(tmp_path):
  table, account = read(written(tmp_path, {"minuteStepsNarrow_merged.csv": STEPS + "7,04/05/2016 08:00:00,1\n"}))
  assert days_of(table) == ["04-05"] and not account.remarks


@pytest.mark.parametrize(
  ("rows", "message"),
  [
    ("7,13/05/2016 8:00,1\n7,05/13/2016 8:00,1\n", r"row 3 \('05/13/2016 8:00'\): .* month first, .* as in .* row 2"),
    ("7,04.05.2016 8:00,1\n7,05.13.2016 8:00,1\n", r"row 3 \('05.13.2016 8:00'\): a date with the month first"),
  ],
)
def test_dates_of_both_orders_cost_the_file(tmp_path, rows, message):
  with pytest.raises(SchemaError, match=message):
    read(written(tmp_path, {"minuteStepsNarrow_merged.csv": STEPS + rows}))


def test_other_files_of_both_orders_settle_nothing(tmp_path):
  files = {
    "a_minuteStepsNarrow_1.csv": STEPS + "7,04/05/2016 08:00:00,1\n",
    "b_minuteStepsNarrow_1.csv": STEPS + "8,13/05/2016 08:00:00,1\n",
    "c_minuteStepsNarrow_1.csv": STEPS + "9,05/13/2016 08:00:00,1\n",
  }
  export = written(tmp_path, files)
  with pytest.raises(SchemaError, match="no date shows whether the day or the month comes first"):
    read(export, "a_")
  assert len(read(export, "b_")[0]) == len(read(export, "c_")[0]) == 1


def days_of_people(folder, person_by=None):
  """The days of each person's readings as the build command reads them, in this process and in others."""
  found = {}
  export_set = ExportSet(folder, Fitabase(), person_by)
  for n, name in export_set.files:
    export = export_set.exports[n]
    here, there = (
      [day for block in Fitabase().read(each, name, Account()) for day in days_of(pd.DataFrame({"start": block.start}))]
      for each in (export, pickle.loads(pickle.dumps(export)))
    )
    assert here == there
    found.setdefault(export.participant, set()).update(here)
  return found


@pytest.mark.parametrize("folders", (False, True))
@pytest.mark.parametrize(("other", "days"), [("13/05/2016", ("05-04", "05-13")), ("05/13/2016", ("04-05", "05-13"))])
def test_the_order_of_dates_may_be_shown_by_another_person(tmp_path, folders, other, days):
  ann, bob = ("ann/", "bob/") if folders else ("", "")
  write = {
    f"{ann}ann_minuteStepsNarrow_20160401_20160501.csv": "ActivityMinute,Steps\n04/05/2016 08:00:00,1\n",
    f"{bob}bob_heartrate_seconds_20160401_20160501.csv": f"Time,Value\n{other} 08:00:00,60\n",
  }
  for name, text in write.items():
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
  assert days_of_people(tmp_path, "folder" if folders else None) == {"ann": {days[0]}, "bob": {days[1]}}


def test_the_order_of_dates_is_looked_at_again_in_a_file_that_has_changed(tmp_path):
  ann, bob = (tmp_path / f"{who}_minuteStepsNarrow_1_2.csv" for who in ("ann", "bob"))
  ann.write_text("ActivityMinute,Steps\n04/05/2016 08:00:00,1\n")
  bob.write_text("ActivityMinute,Steps\n06/05/2016 08:00:00,1\n")
  assert days_of_people(tmp_path)["ann"] == {"04-05"}
  bob.write_text("ActivityMinute,Steps\n13/05/2016 08:00:00,12\n")
  assert days_of_people(tmp_path)["ann"] == {"05-04"}


def test_everybodys_files_are_listed_once_for_all_people(tmp_path, monkeypatch):
  for n in range(5):
    (tmp_path / f"P{n}_minuteStepsNarrow_1_2.csv").write_text("ActivityMinute,Steps\n04/05/2016 08:00:00,1\n")
  listed = []
  whole = Export.whole
  monkeypatch.setattr(Export, "whole", lambda self: listed.append(self) or whole(self))
  assert len(days_of_people(tmp_path)) == 5
  assert len(listed) == 1
