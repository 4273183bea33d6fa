"""Label columns that are nearly numbers, or whole numbers of more digits than a number keeps, are text with a note."""

import pytest

from data_pipelines.ingest.labels_csv import ParticipantTable


@pytest.mark.parametrize(
  ("fields", "values", "note"),
  [
    (['"30,5"', '"31,5"'], ["30,5", "31,5"], "all of 2 fields look like numbers (first: row 2, '30,5')"),
    (["20%", "21%"], ["20%", "21%"], "all of 2 fields look like numbers (first: row 2, '20%')"),
    (
      ["30", "unknown", "40", "?"],
      ["30", "unknown", "40", "?"],
      "2 cannot be read as numbers (first: row 3, ",
    ),
    (["yes", "no", "1"], ["yes", "no", "1"], "of 3 fields 2 cannot be read as numbers (first: row 2, 'yes')"),
    (["000", "001"], ["000", "001"], "digits that a number does not keep (first: row 2, '000')"),
    (["1", str(2**63)], ["1", str(2**63)], f"digits that a number does not keep (first: row 3, '{2**63}')"),
    (
      [str(2**53 + 1), "-7"],
      [str(2**53 + 1), "-7"],
      "digits that a number does not keep (first: row 2, '9007",
    ),
    (["1.5", str(-(2**53) - 1)], ["1.5", str(-(2**53) - 1)], "digits that a number does not keep (first: row 3, "),
    (["1", "9" * 40], ["1", "9" * 40], "digits that a number does not keep (first: row 3, '999"),
    ([str(2**53), "-7"], [2**53, -7], None),
    (["0", "10", "-0"], [0, 10, 0], None),
    (["0.5", "10"], [0.5, 10.0], None),
    (["red", "blue"], ["red", "blue"], None),
  ],
)
def test_a_column(tmp_path, fields, values, note):
  path = tmp_path / "labels.csv"
  path.write_text("participant,x\n" + "".join(f"p{n},{field}\n" for n, field in enumerate(fields)))
  table = ParticipantTable.load(path)
  found = [labels["x"] for labels in table.labels.values()]
  assert found == values and [type(value) for value in found] == [type(value) for value in values]
  assert len(table.notes) == (note is not None)
  if note:
    assert table.notes[0].startswith(f"{path}: label 'x': is text") and note in table.notes[0]
