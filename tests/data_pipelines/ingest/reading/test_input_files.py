"""Whose export it is, which importer reads it, and whether its files have changed."""

import zipfile

import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.input_files import CountingExport, ExportSet, detect_importers
from data_pipelines.ingest.reading.people import FILE, FOLDER, ONE
from tests.data_pipelines.ingest.long_tables import make_rows, write_csv


class Nothing:
  """An importer that reads no file."""

  def files(self, export):
    return []


@pytest.mark.parametrize(
  ("files", "person_by", "expected"),
  [
    (["anna/Takeout/hr-2024.csv", "bob/Takeout/hr-2023.csv"], FOLDER, {"anna", "bob"}),
    (["anna/Takeout/hr-2024.csv", "bob/Takeout/hr-2023.csv"], None, None),
    (["Fit/Sleep/s-1.csv", "Fit/Steps/t-1.csv", "Other/x.csv"], None, None),
    (["Fit/Sleep/s-1.csv", "Fit/Steps/t-1.csv", "Other/x.csv"], ONE, {"in"}),
    (["Fit/Sleep/s-1.csv", "Other/x.csv"], FOLDER, {"Fit", "Other"}),
    (["john.doe/x.csv", "john.smith/x.csv"], FOLDER, {"john.doe", "john.smith"}),
    (["anna/x.csv", "bob/x.csv"], ONE, {"in"}),
    (["anna.csv", "bob.csv"], None, None),
    (["anna.csv", "bob.csv", "more/carl.zip"], FILE, {"anna", "bob", "carl"}),
    (
      ["takeout-20240131T120000Z-001.zip", "takeout-20240131T120000Z-1-002 (1).zip"],
      None,
      {"takeout-20240131T120000Z"},
    ),
    (["a/takeout-20240131T120000Z-001/x.csv", "b/takeout-20240131T120000Z-002.zip"], None, {"in"}),
    (["takeout-20240131T120000Z-001.zip", "takeout-20240131T120001Z-001.zip"], None, None),
    (["anna.zip"], None, {"anna"}),
    (["x.csv"], None, {"in"}),
    (["anna.zip", "anna (1).zip"], None, None),
    (["anna.zip", "anna (1).zip"], FOLDER, None),
    (["anna (1).zip", "anna (2).zip"], FOLDER, {"anna (1)", "anna (2)"}),
    (["anna.zip", "anna/hr.csv"], None, {"anna"}),
    (["anna.zip", "anna/other.csv"], None, None),
  ],
)
def test_whose_an_export_is_is_known_or_asked(tmp_path, files, person_by, expected):
  content = "time,channel,value\n2024-01-01,heart_rate,60\n"
  for name in files:
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".zip"):
      with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("hr.csv", content)
    else:
      path.write_text(content)
  if expected is None:
    with pytest.raises(SchemaError, match="--one_person") as asked:
      ExportSet(tmp_path / "in", LongTable(), person_by)
    assert "\n" not in str(asked.value)
    return
  export_set = ExportSet(tmp_path / "in", LongTable(), person_by)
  assert {export.participant for export in export_set.exports} == expected


def test_detection_refuses_no_importer_and_several(tmp_path):
  write_csv(tmp_path, make_rows(1)[0])
  assert detect_importers(tmp_path, IMPORTERS) == ["long_table"]
  with pytest.raises(SchemaError, match=r"study\.csv: may be of a or of b; choose one with --source"):
    detect_importers(tmp_path, {"a": LongTable(), "b": LongTable(), "c": Nothing()})
  with pytest.raises(
    SchemaError, match=r"holds nothing that an importer reads \(c\); found study.csv \(columns participant, "
  ):
    detect_importers(tmp_path, {"c": Nothing()})


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


@pytest.mark.parametrize("person_by", [None, FOLDER])
def test_what_is_read_by_a_relative_path_is_not_told_as_unread(tmp_path, monkeypatch, person_by):
  (tmp_path / "in" / "anna").mkdir(parents=True)
  write_csv(tmp_path / "in" / "anna", make_rows(1)[0])
  (tmp_path / "in" / "anna" / "notes.txt").write_text("x")
  monkeypatch.chdir(tmp_path)
  unread = [name for names in ExportSet("in", LongTable(), person_by).left_out.values() for name in names]
  assert unread == ["anna/notes.txt"]
