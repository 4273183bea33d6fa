"""Whose export it is, which importer reads it, and whether its files have changed."""

import zipfile

import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.input_files import ExportSet, detect_importer
from tests.data_pipelines.ingest.long_tables import make_rows, write_csv


class Nothing:
  """An importer that reads no file."""

  def files(self, export):
    return []


@pytest.mark.parametrize(
  ("files", "per_person", "expected"),
  [
    (["anna/Takeout/hr-2024.csv", "bob/Takeout/hr-2023.csv"], None, {"anna", "bob"}),
    (["Fit/Sleep/s-1.csv", "Fit/Steps/t-1.csv", "Other/x.csv"], None, {"in"}),
    (["Fit/Sleep/s-1.csv", "Other/x.csv"], True, {"Fit", "Other"}),
    (["anna/x.csv", "bob/x.csv"], False, {"in"}),
    (["takeout-20240131T1Z-001.zip", "takeout-20240131T1Z-002.zip"], None, {"takeout-20240131T1Z"}),
    (["anna.zip"], None, {"anna"}),
    (["x.csv"], None, {"in"}),
  ],
)
def test_a_folder_of_exports_is_distinguished_from_an_export(tmp_path, files, per_person, expected):
  content = "time,channel,value\n2024-01-01,heart_rate,60\n"
  for name in files:
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".zip"):
      with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("hr.csv", content)
    else:
      path.write_text(content)
  exports = ExportSet(tmp_path / "in", LongTable(), per_person)
  assert {export.participant for export in exports.exports} == expected


def test_detection_refuses_no_importer_and_several(tmp_path):
  write_csv(tmp_path, make_rows(1)[0])
  assert detect_importer(tmp_path, IMPORTERS) == "long_table"
  with pytest.raises(SchemaError, match="may be an export of a or of b; choose one with --source"):
    detect_importer(tmp_path, {"a": LongTable(), "b": LongTable(), "c": Nothing()})
  with pytest.raises(SchemaError, match=r"holds nothing that an importer reads \(c\); name one with --source"):
    detect_importer(tmp_path, {"c": Nothing()})


def test_digests_differ_with_the_content(tmp_path):
  for name, row in (("one", "1"), ("two", "2")):
    with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as packed:
      packed.writestr("x.csv", row)
    (tmp_path / f"{name}.csv").write_text(row)
  for kind, inner in (("zip", "x.csv"), ("csv", "")):
    one, two = (Export(tmp_path / f"{name}.{kind}") for name in ("one", "two"))
    assert one.digest(inner or "one.csv") == one.digest(inner or "one.csv")
    assert one.digest(inner or "one.csv") != two.digest(inner or "two.csv")
