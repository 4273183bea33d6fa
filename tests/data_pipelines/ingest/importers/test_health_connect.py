"""Google Health Connect: databases with the tables and columns of Android's own, including hostile ones."""

import pathlib
import re
import sqlite3
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.health_connect import HealthConnect
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import ENTERED_BY_HAND, Readings, Stretch

HEALTH_CONNECT = HealthConnect()
T = 1_769_900_400_000  # 2026-01-31T23:00:00Z, midnight of February at UTC+1
WATCH, PHONE = "01 watch com.fitbit.FitbitMobile", "11 phone com.google.android.apps.fitness"

COMMON = """row_id INTEGER PRIMARY KEY AUTOINCREMENT, uuid BLOB UNIQUE NOT NULL, last_modified_time INTEGER,
  client_record_id TEXT, client_record_version TEXT, device_info_id INTEGER, app_info_id INTEGER,
  recording_method INTEGER, dedupe_hash BLOB"""
INTERVAL = f"""{COMMON}, start_time INTEGER, start_zone_offset INTEGER, end_time INTEGER, end_zone_offset INTEGER,
  local_date INTEGER, local_date_time_start_time INTEGER AS (start_time + 1000 * start_zone_offset)"""
INSTANT = f"{COMMON}, time INTEGER, zone_offset INTEGER, local_date INTEGER"
CHILD = "parent_key INTEGER"
TABLES = f"""
CREATE TABLE android_metadata (locale TEXT);
CREATE TABLE application_info_table (row_id INTEGER PRIMARY KEY, package_name TEXT, app_name TEXT, app_icon BLOB);
CREATE TABLE device_info_table (row_id INTEGER PRIMARY KEY, manufacturer TEXT, model TEXT, device_type INTEGER);
CREATE TABLE heart_rate_record_table ({INTERVAL});
CREATE TABLE heart_rate_record_series_table ({CHILD}, beats_per_minute INTEGER, epoch_millis INTEGER);
CREATE TABLE steps_record_table ({INTERVAL}, count INTEGER);
CREATE TABLE distance_record_table ({INTERVAL}, distance REAL);
CREATE TABLE floors_climbed_record_table ({INTERVAL}, floors REAL);
CREATE TABLE total_calories_burned_record_table ({INTERVAL}, energy REAL);
CREATE TABLE active_calories_burned_record_table ({INTERVAL}, energy REAL);
CREATE TABLE oxygen_saturation_record_table ({INSTANT}, percentage REAL);
CREATE TABLE respiratory_rate_record_table ({INSTANT}, rate REAL);
CREATE TABLE heart_rate_variability_rmssd_record_table ({INSTANT}, heart_rate_variability_millis REAL);
CREATE TABLE blood_glucose_record_table ({INSTANT}, specimen_source INTEGER, level REAL, meal_type INTEGER);
CREATE TABLE skin_temperature_record_table ({INTERVAL}, measurement_location INTEGER, baseline REAL);
CREATE TABLE skin_temperature_delta_table ({CHILD}, delta REAL, epoch_millis INTEGER);
CREATE TABLE sleep_session_record_table ({INTERVAL}, notes TEXT, title TEXT);
CREATE TABLE sleep_stages_table ({CHILD}, stage_start_time INTEGER, stage_end_time INTEGER, stage_type INTEGER);
CREATE TABLE exercise_session_record_table ({INTERVAL}, notes TEXT, exercise_type INTEGER, title TEXT);
INSERT INTO application_info_table VALUES (1, 'com.fitbit.FitbitMobile', 'Fitbit', NULL);
INSERT INTO application_info_table VALUES (2, 'com.google.android.apps.fitness', 'Fit', x'00ff');
INSERT INTO device_info_table VALUES (1, 'Google', 'Pixel Watch', 1), (2, 'Google', 'Pixel 9', 2);
"""


def database(path, *inserts, tables=TABLES):
  """Writes a database; each insert is (table, {column: value})."""
  with sqlite3.connect(path) as connection:
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(tables)
    for table, row in inserts:
      row = {**row, "uuid": np.random.bytes(16)} if table.endswith("record_table") else row
      names = ", ".join(f'"{name}"' for name in row)
      connection.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
  connection.close()
  return path


def interval(start, end, machine=1, **values):
  """The columns of a record that lasts from `start` to `end`, in minutes after T."""
  times = {"start_time": T + 60_000 * start, "end_time": T + 60_000 * end, "start_zone_offset": 3600}
  return {**times, "app_info_id": machine, "device_info_id": machine, "recording_method": 2, **values}


def instant(at, **values):
  row = {"time": T + 60_000 * at, "zone_offset": 3600, "app_info_id": 1, "device_info_id": 1, "recording_method": 2}
  return {**row, **values}


def read(path, account=None):
  export, account = Export(path), account if account is not None else Account()
  return [r for name in HEALTH_CONNECT.files(export) for r in HEALTH_CONNECT.read(export, name, account)], account


def points(items, signal, device=None):
  """[(start, end, value)] in minutes after T, values in the signal's unit."""
  unit = next(s.unit for s in HEALTH_CONNECT.signals if s.name == signal)
  rows: list = []
  for block in items:
    if isinstance(block, Readings) and block.signal == signal and device in (None, block.device):
      assert block.start.dtype == block.end.dtype == np.int64 and block.value.dtype == np.float64
      assert block.unit == ("cal" if unit == "kcal" else unit)
      columns = (block.start - T) / 60_000, (block.end - T) / 60_000, block.value / (1000 if unit == "kcal" else 1)
      rows += zip(*(column.tolist() for column in columns), strict=True)
  return rows


HEART = "heart_rate_record"
ALL = [
  (f"{HEART}_table", interval(0, 9)),
  (f"{HEART}_table", interval(10, 19, start_zone_offset=-34_200)),
  *(
    (f"{HEART}_series_table", {"parent_key": 1 + k // 2, "beats_per_minute": 60 + k, "epoch_millis": T + 1000 * k})
    for k in range(4)
  ),
  ("steps_record_table", interval(0, 5, count=50)),
  ("steps_record_table", interval(0, 15, 2, count=140)),
  ("steps_record_table", interval(5, 6, count=7, recording_method=3)),
  ("distance_record_table", interval(0, 5, distance=41.25)),
  ("floors_climbed_record_table", interval(0, 5, floors=2.0)),
  ("total_calories_burned_record_table", interval(0, 15, energy=18_250.5)),
  ("active_calories_burned_record_table", interval(0, 15, energy=3000.0)),
  ("oxygen_saturation_record_table", instant(1, percentage=96.5)),
  ("respiratory_rate_record_table", instant(2, rate=14.6)),
  ("heart_rate_variability_rmssd_record_table", instant(3, heart_rate_variability_millis=40.9)),
  ("blood_glucose_record_table", instant(4, level=5.5, zone_offset=None)),
  ("skin_temperature_record_table", interval(0, 60, baseline=33.5)),
  ("skin_temperature_record_table", interval(0, 60, baseline=5e-324)),
  ("skin_temperature_delta_table", {"parent_key": 1, "delta": -0.25, "epoch_millis": T}),
  ("skin_temperature_delta_table", {"parent_key": 2, "delta": 0.5, "epoch_millis": T + 60_000}),
  ("sleep_session_record_table", interval(0, 90, title="Nap of Ada", notes="secret")),
  *(
    ("sleep_stages_table", {"parent_key": 1, "stage_type": k, "stage_start_time": T + 600_000 * k,
                            "stage_end_time": T + 600_000 * (k + 1)})
    for k in range(9)
  ),
  ("exercise_session_record_table", interval(100, 130, exercise_type=33, title="with Bob", recording_method=3)),
  ("exercise_session_record_table", interval(200, 230, exercise_type=999)),
]  # fmt: skip


def test_every_table(tmp_path):
  database(tmp_path / "health_connect_export.db", *ALL)
  items, account = read(tmp_path)
  assert [(round(a * 60), v) for a, _, v in points(items, "heart_rate")] == [(0, 60), (1, 61), (2, 62), (3, 63)]
  assert points(items, "steps", WATCH) == [(0, 5, 50)] and points(items, "steps", PHONE) == [(0, 15, 140)]
  assert points(items, "distance") == [(0, 5, 41.25)] and points(items, "floors") == [(0, 5, 2)]
  assert points(items, "calories") == [(0, 15, pytest.approx(18.2505))]
  assert points(items, "active_calories") == [(0, 15, 3.0)]
  assert points(items, "spo2") == [(1, 1, 96.5)] and points(items, "respiratory_rate") == [(2, 2, 14.6)]
  assert points(items, "hrv_rmssd") == [(3, 3, 40.9)] and points(items, "glucose") == [(4, 4, 5.5)]
  assert points(items, "skin_temperature") == [(0, 0, 33.25)]
  assert points(items, "skin_temperature_delta") == [(1, 1, 0.5)]
  stages = {1: 0, 2: 1, 3: 0, 4: 1, 5: 1, 6: 1, 7: 0}
  assert points(items, "asleep") == [(10 * k, 10 * k + 10, asleep) for k, asleep in stages.items()]
  assert [r for r in items if isinstance(r, Stretch)] == [
    Stretch(tmp_path.name, name, T + 60_000 * start, T + 60_000 * end, 60)
    for name, start, end in (("sleep", 0, 90), ("running", 100, 130), ("other", 200, 230))
  ]
  assert account.read[tmp_path.name] == 4 + 3 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 2 + 9 + 1 + 2
  assert account.dropped == {
    (tmp_path.name, "record without a value, or an unknown one"): 2,
  }
  assert len(points(items, "steps", ENTERED_BY_HAND)) == 1
  assert not any("Ada" in repr(r) or "Bob" in repr(r) or "secret" in repr(r) for r in items)


def test_offsets_and_trust(tmp_path):
  database(tmp_path / "health_connect_export.db", *ALL)
  items, _ = read(tmp_path)
  offsets = {r.signal: r.offset for r in items if isinstance(r, Readings)}
  assert offsets["heart_rate"].tolist() == [60, 60, -570, -570] and offsets["glucose"] is None
  devices = {r.device for r in items if isinstance(r, Readings)}
  assert sorted(devices) == [WATCH, PHONE, ENTERED_BY_HAND]  # sorted by name, the watch comes before the phone


def test_folder_zip_and_file_give_the_same(tmp_path):
  path = database(tmp_path / "health_connect_export.db", *ALL)
  with zipfile.ZipFile(tmp_path / "Health Connect.zip", "w", zipfile.ZIP_DEFLATED) as file:
    file.write(path, path.name)
  every = [read(place)[0] for place in (path, tmp_path / "Health Connect.zip", tmp_path)]
  for signal in (s.name for s in HEALTH_CONNECT.signals):
    plain, packed, folder = (points(items, signal) for items in every)
    assert plain == packed == folder != []


def test_an_older_version_without_tables_and_columns(tmp_path):
  tables = "CREATE TABLE steps_record_table (row_id INTEGER, start_time INTEGER, end_time INTEGER, count INTEGER)"
  row = {"start_time": T, "end_time": T + 60_000, "count": 12}
  path = tmp_path / "health_connect_export.db"
  with sqlite3.connect(path) as connection:
    connection.execute(tables)
    connection.execute("INSERT INTO steps_record_table VALUES (1, :start_time, :end_time, :count)", row)
  items, account = read(path)
  assert points(items, "steps", "10 unknown") == [(0, 1, 12)] and items[0].offset is None
  assert account.read == {"health_connect_export": 1}


def test_rows_that_cannot_be_used_are_counted(tmp_path):
  bad = [
    interval(0, 1, count=None),
    interval(0, 1, count="many"),
    interval(5, 1, count=1),
    interval(0, 1, count=1, start_time=-5),
    interval(0, 1, count=1, end_time=1 << 60),
    interval(0, 1, count=1, start_time=None),
    interval(0, 1, count=1, start_zone_offset=10_000_000),
  ]
  path = database(tmp_path / "health_connect.db", *(("steps_record_table", row) for row in bad))
  items, account = read(path)
  assert items == [] and account.read["health_connect"] == 7
  assert account.dropped == {
    ("health_connect", "record without a value, or an unknown one"): 2,
    ("health_connect", "record that ends before it starts"): 1,
    ("health_connect", "record without a time between 1970 and 2100"): 3,
    ("health_connect", "record with an impossible time zone"): 1,
  }


def test_blocks_number_their_rows_on(tmp_path, monkeypatch):
  monkeypatch.setattr("data_pipelines.ingest.importers.database.ROWS_PER_BATCH", 4)
  rows = [("steps_record_table", interval(k, k + 1, count=k)) for k in range(9)]
  rows.append(("steps_record_table", interval(0, 1, count=None)))
  items, account = read(database(tmp_path / "health_connect.db", *rows))
  assert len(items) == 3 and points(items, "steps") == [(k, k + 1, k) for k in range(9)]
  assert next(iter(account.example.values())).endswith("row 10 of its table")


def hostile(kind):
  steps = "row_id INTEGER, start_time INTEGER, end_time INTEGER, start_zone_offset INTEGER"
  fill = "INSERT INTO steps_record_table (row_id, start_time, end_time, count) VALUES (1, 1, 2, 3)"
  return {
    "view": "CREATE VIEW steps_record_table AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) "
    "SELECT x AS start_time, x AS end_time, x AS count FROM r",
    "virtual": "CREATE VIRTUAL TABLE steps_record_table USING fts5(start_time, end_time, count)",
    "trigger": f"CREATE TABLE steps_record_table ({steps}, count INTEGER); CREATE TABLE gone (x);"
    f"CREATE TRIGGER t AFTER INSERT ON gone BEGIN DELETE FROM steps_record_table; END; {fill}",
    "computed": f"CREATE TABLE steps_record_table ({steps}, x INTEGER, count INTEGER AS (zeroblob(1000000000)))",
    "offset": f"CREATE TABLE steps_record_table (row_id, start_time, end_time, count, start_zone_offset AS "
    f"(length(zeroblob(1000000000)))); {fill}",
  }[kind]


@pytest.mark.parametrize(
  ("kind", "message"),
  [("view", "none of Health Connect's"), ("virtual", "none of Health Connect's"), ("computed", "no column 'count'"),
   ("trigger", None), ("offset", None)],
)  # fmt: skip
def test_a_hostile_schema_runs_nothing(kind, message, tmp_path):
  path = tmp_path / "health_connect_export.db"
  connection = sqlite3.connect(path)
  connection.executescript(hostile(kind))
  connection.commit()
  connection.close()
  before = path.read_bytes()
  if message:
    with pytest.raises(SchemaError, match=message):
      read(path, Account(strict=True))
  else:
    assert [r.value.tolist() for r in read(path)[0]] == [[3.0]]
  assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


def test_a_journal_beside_the_database_is_not_replayed(tmp_path):
  path = database(tmp_path / "health_connect_export.db", ("steps_record_table", interval(0, 1, count=5)))
  (tmp_path / "health_connect_export.db-wal").write_bytes(b"\x37\x7f\x06\x82" * 100)
  (tmp_path / "health_connect_export.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" * 100)
  assert points(read(path)[0], "steps") == [(0, 1, 5)]


@pytest.mark.parametrize("kind", ("folder", "file", "zip"))
def test_rows_in_a_journal_beside_the_database_are_noted(tmp_path, kind):
  path = database(tmp_path / "health_connect_export.db", ("steps_record_table", interval(0, 1, count=5)))
  for size, notes in ((0, 0), (32, 0), (4152, 1)):
    journal = tmp_path / "health_connect_export.db-wal"
    journal.write_bytes(b"\x37\x7f\x06\x82" * (size // 4))
    export = {"folder": tmp_path, "file": path, "zip": tmp_path / "a.zip"}[kind]
    if kind == "zip":
      with zipfile.ZipFile(export, "w") as file:
        for member in (path, journal):
          file.write(member, member.name)
    account = Account()
    opened = Export(export, "p")
    found = [block for name in HEALTH_CONNECT.files(opened) for block in HEALTH_CONNECT.read(opened, name, account)]
    assert points(found, "steps") == [(0, 1, 5)]
    assert len(account.remarks) == notes and all("-wal beside it is not read" in text for _, text in account.remarks)
    if kind == "zip":
      export.unlink()


@pytest.mark.parametrize(
  ("head", "notes"), ((b"\xd9\xd5\x05\xf9 \xa1c\xd7", 1), (bytes(8), 0)), ids=("hot", "kept after its end")
)
@pytest.mark.parametrize("alone", (False, True))
def test_only_a_journal_that_undoes_a_change_is_noted(tmp_path, head, notes, alone):
  path = database(tmp_path / "health_connect_export.db", ("steps_record_table", interval(0, 1, count=5)))
  (tmp_path / "health_connect_export.db-journal").write_bytes(head + bytes(4000))
  account, export = Account(), Export(path if alone else tmp_path, "p")
  (name,) = HEALTH_CONNECT.files(export)
  assert points([*HEALTH_CONNECT.read(export, name, account)], "steps") == [(0, 1, 5)]
  assert len(account.remarks) == notes
  assert all("an app was stopped" in text and "-journal beside it" in text for _, text in account.remarks)


def test_pages_that_form_a_cycle_end_with_an_error(tmp_path):
  """The root page of a table, an interior page, is made to point to itself again and again."""
  rows = [("steps_record_table", interval(k, k + 1, count=k, client_record_id="x" * 300)) for k in range(2000)]
  path = database(tmp_path / "health_connect_export.db", *rows)
  with sqlite3.connect(path) as connection:
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'steps_record_table'").fetchone()
  connection.close()
  data = bytearray(path.read_bytes())
  page = 4096 * (root - 1)
  assert data[page] == 5  # interior
  cells = int.from_bytes(data[page + 3 : page + 5], "big")
  leaf = data[page + 8 : page + 12]
  for cell in range(cells):
    place = page + int.from_bytes(data[page + 12 + 2 * cell : page + 14 + 2 * cell], "big")
    data[place : place + 4] = root.to_bytes(4, "big") if cell % 2 else leaf
  path.write_bytes(data)
  with pytest.raises(SchemaError, match="not a database, or a damaged one"):
    read(path, Account(strict=True))


def test_work_is_bounded_by_the_size_of_the_file(tmp_path, monkeypatch):
  rows = [("steps_record_table", interval(k, k + 1, count=k)) for k in range(500)]
  path = database(tmp_path / "health_connect_export.db", *rows)
  monkeypatch.setattr("data_pipelines.ingest.importers.database._EVERY", 500)
  assert len(points(read(path)[0], "steps")) == 500
  monkeypatch.setattr("data_pipelines.ingest.importers.database._STEPS", 0)
  monkeypatch.setattr("data_pipelines.ingest.importers.database._STEPS_FREE", 2000)
  with pytest.raises(SchemaError, match="damaged one: interrupted"):
    read(path, Account(strict=True))


@pytest.mark.parametrize("keep", [0, 50, 4096, 9000])
def test_cut_off_files_are_refused(keep, tmp_path):
  path = database(tmp_path / "health_connect_export.db", *ALL)
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(SchemaError) as error:
    read(path)
  assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_column_is_named(tmp_path):
  path = database(tmp_path / "health_connect.db", tables=TABLES.replace("beats_per_minute", "bpm"))
  with pytest.raises(SchemaError, match="'heart_rate_record_series_table' has no column 'beats_per_minute'"):
    read(path, Account(strict=True))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
  return database(tmp_path_factory.mktemp("sound") / "health_connect_export.db", *ALL).read_bytes()


@pytest.mark.parametrize("byte", [b"'", b"\x80"])
def test_a_damaged_schema_is_reported_in_one_line(byte, sound, tmp_path):
  path, refused = tmp_path / "health_connect_damaged.db", 0
  for place in (match.start() for match in re.finditer(rb"(?<=[A-Z]) [a-z_]+ (INTEGER|REAL|TEXT)|INTEGER", sound)):
    path.write_bytes(sound[:place] + byte + sound[place + 1 :])
    try:
      read(path)
    except SchemaError as error:
      assert "damaged.db" in str(error) and "\n" not in str(error) and len(str(error)) < 400
      refused += 1
  assert refused


@settings(max_examples=120)
@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), max_size=12), st.booleans())
def test_mutated_files_are_read_or_refused(sound, tmp_path_factory, changes, head):
  data = bytearray(sound)
  for place, byte in changes:
    data[place % (8192 if head else len(data))] = byte
  path = pathlib.Path(tmp_path_factory.getbasetemp()) / "health_connect_mutated.db"
  path.write_bytes(data)
  try:
    items, account = read(path)
  except SchemaError as error:
    assert "health_connect_mutated.db" in str(error) and "\n" not in str(error)
    return
  for part in items:
    assert isinstance(part, Stretch) or (np.isfinite(part.value).all() and (part.end >= part.start).all())
  assert sum(account.dropped.values()) <= sum(account.read.values())


def test_a_database_of_another_name_is_known_by_its_tables(tmp_path):
  database(tmp_path / "health_connect_export.db", *ALL)
  (tmp_path / "health_connect_export.db").rename(tmp_path / "my backup.db")
  with sqlite3.connect(tmp_path / "other.db") as connection:
    connection.execute("CREATE TABLE heart_rate (bpm)")
  (tmp_path / "text.db").write_text("no database")
  (tmp_path / "cut.db").write_bytes(b"SQLite format 3\0")
  assert HEALTH_CONNECT.files(Export(tmp_path)) == ["my backup.db"]
  (tmp_path / "my backup.db").rename(tmp_path / "backup of March")
  assert HEALTH_CONNECT.files(Export(tmp_path / "backup of March")) == ["backup of March"]
  assert not HEALTH_CONNECT.files(Export(tmp_path / "other.db"))


def test_tables_that_are_not_read_are_counted_by_name(tmp_path):
  database(tmp_path / "health_connect_export.db", *ALL)
  with sqlite3.connect(tmp_path / "health_connect_export.db") as connection:
    for table, rows in {
      "weight_record_table": 3,
      "vo2_max_record_table": 0,
      "secret_table": 2,
      "Evil'_record_table": 1,
    }.items():
      connection.execute(f'CREATE TABLE "{table}" (value)')
      connection.executemany(f'INSERT INTO "{table}" VALUES (?)', [(n,) for n in range(rows)])
  _, account = read(tmp_path)
  assert account.passed_over == {(tmp_path.name, "weight"): 3}
