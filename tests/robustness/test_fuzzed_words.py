"""Changed bytes in what importers read since they read more: refused in one line, or read, and never without an end."""

import codecs
import gzip
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.apple import Apple
from data_pipelines.ingest.importers.fitabase import Fitabase
from data_pipelines.ingest.importers.fitbit import Fitbit
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.importers.samsung import Samsung
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.unknown_input import suggestions

DAY = 1_717_459_200_000
TABLE = "when;bpm;who\n04/06/2024 08:00;60,5;kim\n05/06/2024 08:01;61;kim\n"
TREND = (
  f"com.samsung.shealth.step_daily_trend,1,4\nbinning_data,source_type,day_time\na.json,-2,{DAY},\na.json,0,{DAY},\n"
)
EXERCISE = (
  "com.samsung.shealth.exercise,1,3\nlive_data,exercise_type,start_time,time_offset,end_time\n"
  f"b.json,1002,2024-06-04 18:00:00.000,7200000,{DAY + 90_000_000},\n"
)
RECORD = (
  '<Record type="HKQuantityTypeIdentifierHeartRate" sourceName="w" unit="count/min" value="60" '
  'startDate="2024-06-04 9:00:00\u202fpm +0200" endDate="2024-06-04 9:00:00\u202fpm +0200">'
  '<MetadataEntry key="HKWasUserEntered" value="1"/></Record>'
)
ITEMS = [
  {"dateTime": "2024-06-04T08:00:05Z", "value": {"bpm": 60, "confidence": 2}},
  {"dateTime": "1,5", "value": "1,5"},
]
BINS = [{"count": 30, "distance": 2.5}, {}] * 72
LIVE = [{"heart_rate": 120.0, "start_time": DAY}, {"speed": 1}]
MAPPED = LongTable({"time": "when", "heart_rate": "bpm", "participant": "who"}, "%d/%m/%Y %H:%M")
# importer, name of the file that is changed, its bytes, and other files
FILES = [
  (MAPPED, "t.csv", TABLE.encode(), {}),
  (MAPPED, "t.csv", codecs.BOM_UTF16_LE + TABLE.encode("utf-16-le"), {}),
  (MAPPED, "t.csv.gz", gzip.compress(TABLE.encode()), {}),
  (LongTable(), "t.tsv", b"Timestamp\tchannel\tvalue\n04.06.2024 08:00\tsteps\t5\n1717480800\tsteps\t6\n", {}),
  (Samsung(), "com.samsung.shealth.step_daily_trend.1.csv", TREND.encode(), {"a.json": json.dumps(BINS).encode()}),
  (Samsung(), "a.json", json.dumps(BINS).encode(), {"com.samsung.shealth.step_daily_trend.1.csv": TREND.encode()}),
  (Samsung(), "com.samsung.shealth.exercise.1.csv", EXERCISE.encode(), {"b.json": json.dumps(LIVE).encode()}),
  (Samsung(), "b.json", json.dumps(LIVE).encode(), {"com.samsung.shealth.exercise.1.csv": EXERCISE.encode()}),
  (Apple(), "export.xml", f"<HealthData>{RECORD}{RECORD}</HealthData>".encode(), {}),
  (Fitbit(), "mine.json", json.dumps(ITEMS).encode(), {}),
  (
    Fitabase(),
    "minuteStepsNarrow_x (1).csv",
    b"Id;ActivityMinute;Steps\n7;12.04.2016 08:00;1,5\n7;4/12/2016 8:00;2\n",
    {},
  ),
]
CHANGES = st.lists(
  st.tuples(
    st.integers(0, 10**6), st.integers(0, 12), st.binary(max_size=12) | st.sampled_from([b'"', b";", b",", b"9"])
  ),
  min_size=1,
  max_size=4,
)


def changed(raw, changes):
  raw = bytearray(raw)
  for at, length, new in changes:
    at %= len(raw) + 1
    raw[at : at + length] = new
  return bytes(raw)


@settings(max_examples=120, deadline=4000)
@given(st.sampled_from(range(len(FILES))), CHANGES)
def test_changed_bytes_are_refused_or_read(tmp_path_factory, which, changes):
  importer, name, raw, others = FILES[which]
  folder = tmp_path_factory.mktemp("fuzz")
  for file, content in {**others, name: changed(raw, changes)}.items():
    (folder / file).write_bytes(content)
  account = Account()
  try:
    export = Export(folder, "kim")
    for file in importer.files(export):
      for item in importer.read(export, file, account):
        if isinstance(item, Readings):
          assert np.isfinite(item.value).all() and len(item.start) == len(item.end) == len(item.value)
      list(export.conversions(file))
  except SchemaError as error:
    assert "\n" not in str(error)
  for participant in {*account.read, *(who for who, _ in account.dropped)}:
    assert sum(n for (who, _), n in account.dropped.items() if who == participant) <= account.read[participant]


@settings(max_examples=60, deadline=4000)
@given(st.sampled_from(["x.csv", "x.tsv", "x.json", "x.tgz", "x", "x.csv.gz"]), st.binary(max_size=80), CHANGES)
def test_anything_can_be_described(tmp_path_factory, name, raw, changes):
  folder = tmp_path_factory.mktemp("unknown")
  (folder / name).write_bytes(changed(raw or TABLE.encode(), changes))
  try:
    line = suggestions([Export(folder)], "holds nothing")
  except SchemaError as error:
    line = str(error)
  assert line.startswith("holds nothing; found ") and "\n" not in line
