"""The account of an import adds up: every row is kept or dropped, once."""

import collections
import csv
import datetime
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.imported_source import ImportedSource
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.input_files import ExportSet
from tests.data_pipelines.ingest.long_tables import FIRST_DAY, write_csv


@st.composite
def tables(draw):
  """One row for each of some minutes of some people, either good or bad in one way. The first row is good.

  A file without any time would not be read as a table.
  """
  rows = [("z", FIRST_DAY.isoformat(), "heart_rate", "70", "bpm")]
  for who in draw(st.sets(st.sampled_from(["a", "b", "c"]), min_size=1)):
    for minute in draw(st.sets(st.integers(0, 2 * 1440 - 1), min_size=1, max_size=40)):
      stamp = (FIRST_DAY + datetime.timedelta(minutes=minute)).isoformat()
      bad = draw(st.sampled_from(["", "", "", "time", "value", "range", "zero"]))
      value = {"value": "high", "range": "900", "zero": "0"}.get(bad, "77")
      rows.append((who, "noon" if bad == "time" else stamp, "heart_rate", value, "bpm"))
  return rows


@given(tables(), st.floats(0.98, 1))
@settings(max_examples=40)
def test_every_row_is_kept_or_dropped(tmp_path_factory, rows, max_missing):
  folder = tmp_path_factory.mktemp("account")
  export_set = ExportSet(write_csv(folder, rows), LongTable())
  try:
    source = ImportedSource(export_set, folder / "work", ImportOptions(max_missing=max_missing))
  except SchemaError as error:
    assert "no day is left" in str(error)
    return
  observed = collections.Counter()
  for person in source.participants:
    observed[person] = sum(int((~np.isnan(day.values)).sum()) for day in source.person(person).days)
  table = list(csv.DictReader(io.StringIO(source.documents["account.csv"])))
  table = [row for row in table if not row["outcome"].startswith("clock: ")]  # tells of rows that are counted already
  for who in {row[0] for row in rows}:
    own = [row for row in table if row["participant"] == who and not row["outcome"].startswith("clock: ")]
    outcomes = collections.Counter({row["outcome"]: int(row["rows"]) for row in own})
    assert outcomes.pop("read") == sum(row[0] == who for row in rows) == outcomes.total()
    assert outcomes["kept"] == observed[who]  # each kept row has a step of its own
