"""Whose export it is, which importer reads it, and whether its files have changed."""

import zipfile

import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.input_files import CountingExport, ExportSet, detect_importer
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
  export_set = ExportSet(tmp_path / "in", LongTable(), per_person)
  assert {export.participant for export in export_set.exports} == expected


def test_detection_refuses_no_importer_and_several(tmp_path):
  write_csv(tmp_path, make_rows(1)[0])
  assert detect_importer(tmp_path, IMPORTERS) == "long_table"
  with pytest.raises(SchemaError, match="may be an export of a or of b; choose one with --source"):
    detect_importer(tmp_path, {"a": LongTable(), "b": LongTable(), "c": Nothing()})
  with pytest.raises(
    SchemaError, match=r"holds nothing that an importer reads \(c\); found study.csv \(columns participant, "
  ):
    detect_importer(tmp_path, {"c": Nothing()})


def test_digests_differ_with_the_content_the_person_and_the_files_beside(tmp_path):
  class WithBeside(LongTable):
    beside = ("*.profile",)

  def digests(person):
    (tmp_path / person).mkdir(exist_ok=True)
    (tmp_path / person / "x.csv").write_text("time,channel,value\n2024-01-01,heart_rate,60\n")
    return list(ExportSet(tmp_path / person, WithBeside()).digests.values())

  anna, bob = digests("anna"), digests("bob")
  assert anna != bob
  assert digests("anna") == anna
  (tmp_path / "anna" / "me.profile").write_text("watch")
  assert digests("anna") != anna


def test_a_counting_export_reports_every_byte(tmp_path):
  (tmp_path / "x.csv").write_bytes(b"0123456789" * 1000)
  sizes = []
  with CountingExport(Export(tmp_path / "x.csv"), sizes.append).open("x.csv") as file:
    assert len(file.read()) == sum(sizes) == 10_000
