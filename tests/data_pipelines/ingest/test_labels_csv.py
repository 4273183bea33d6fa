"""Labels and events from CSV files: types, and one line that names the file and the row."""

import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.labels_csv import LabelledStretch, ParticipantTable, load_events
from tests.data_pipelines.ingest.gridding.made_readings import ms


def test_columns_have_the_first_type_that_fits(tmp_path):
  path = tmp_path / "labels.csv"
  path.write_text("participant,flag,count,size,text,timezone\na,TRUE,1,1.5,x,Asia/Tokyo\n\nb,,-2,2,3,\n")
  table = ParticipantTable.load(path)
  assert table.labels == {
    "a": {"flag": True, "count": 1, "size": 1.5, "text": "x"},
    "b": {"flag": None, "count": -2, "size": 2.0, "text": "3"},
  }
  assert table.zones == {"a": "Asia/Tokyo"}


def test_events_on_three_clocks(tmp_path):
  path = tmp_path / "events.csv"
  path.write_text(
    "name,participant,start,end,value\nwalk,a,2024-03-04T10:00,2024-03-04T11:00,\n"
    "walk,a,2024-03-04T10:00Z,2024-03-04T11:00Z,0\nwalk,a,2024-03-04T10:00+02:00,2024-03-04T11:00+02:00,2\n"
  )
  ten, eleven, hours = ms("2024-03-04T10:00"), ms("2024-03-04T11:00"), 2 * 3_600_000
  assert load_events(path) == [
    LabelledStretch("a", "walk", ten, eleven, None, "wall", 1),
    LabelledStretch("a", "walk", ten, eleven, None, "utc", 0),
    LabelledStretch("a", "walk", ten - hours, eleven - hours, 120, "utc", 2),
  ]


@pytest.mark.parametrize(
  ("load", "content", "message"),
  [
    (ParticipantTable.load, "", ": empty, expected a header"),
    (ParticipantTable.load, "name\na\n", ": the first column is 'name', expected 'participant'"),
    (ParticipantTable.load, "participant,age\n,1\n", " row 2: participant is empty"),
    (ParticipantTable.load, "participant,age\na,1\n\na,2\n", " row 4: participant 'a' appears more than once"),
    (ParticipantTable.load, "participant,age,age\n", ": column 'age' appears more than once"),
    (ParticipantTable.load, "participant,\n", ": a column has no name"),
    (ParticipantTable.load, "participant,age\na\n", " row 2: 1 field, expected the header's 2"),
    (ParticipantTable.load, 'participant,age\n"a,1\n', ": not a CSV: unexpected end of data"),
    (ParticipantTable.load, b"participant\n\xff\n", ": not UTF-8 text"),
    (load_events, "participant,start\n", ": column 'end' is missing; the header has participant, start"),
    (load_events, "participant,start,end,name\na,2024-01-01,2024-01-02,\n", " row 2: participant or name is empty"),
    (load_events, "participant,start,end,name\na,2024-01-01,noon,x\n", " row 2: end is 'noon', expected an ISO time"),
    (
      load_events,
      "participant,start,end,name,value\na,2024-01-01,2024-01-02,x,-1\n",
      " row 2: value is '-1', expected",
    ),
    (
      load_events,
      "participant,start,end,name\na,2024-01-01T10:00Z,2024-01-02T10:00,x\n",
      " row 2: only one of start and end has an offset",
    ),
  ],
)
def test_faults_are_named(tmp_path, load, content, message):
  path = tmp_path / "people.csv"
  path.write_bytes(content.encode() if isinstance(content, str) else content)
  with pytest.raises(SchemaError) as error:
    load(path)
  assert str(error.value).startswith(f"{path}{message}")
  assert "\n" not in str(error.value)
