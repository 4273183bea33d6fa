"""Files of exports: folders and zips give the same, and nothing in them is trusted."""

import codecs
import gzip
import json
import zipfile

import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading import export_files
from data_pipelines.ingest.reading.export_files import Export


def write_zip(path, **members):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
    for name, content in members.items():
      packed.writestr(name.replace("__", "/").replace("_csv", ".csv"), content)
  return path


def test_folders_zips_and_single_files_give_the_same(tmp_path):
  (tmp_path / "anna" / "in").mkdir(parents=True)
  (tmp_path / "anna" / "in" / "steps.csv").write_text("a,b\n")
  (tmp_path / "anna" / ".hidden").write_text("")
  write_zip(tmp_path / "anna.zip", in__steps_csv="a,b\n")
  folder, packed = Export(tmp_path / "anna"), Export(tmp_path / "anna.zip")
  single = Export(tmp_path / "anna" / "in" / "steps.csv")
  assert folder.names == packed.names == ["in/steps.csv"] and single.names == ["steps.csv"]
  assert (folder.participant, packed.participant, single.participant) == ("anna", "anna", "steps")
  for export in (folder, packed, single):
    (name,) = export.matching("STEPS*.csv")
    assert export.size(name) == 4
    with export.text(name) as text, export.open(name) as stream, export.on_disk(name) as path:
      assert text.read() == stream.read().decode() == path.read_text() == "a,b\n"
  assert packed.where("in/steps.csv", 7) == f"{tmp_path}/anna.zip/in/steps.csv row 7"
  assert single.where("steps.csv") == f"{tmp_path}/anna/in/steps.csv"
  assert folder.matching("out/steps.csv") == []


def test_digests_differ_with_the_content(tmp_path):
  for name in ("one", "two"):
    write_zip(tmp_path / f"{name}.zip", x_csv=name)
    (tmp_path / f"{name}.csv").write_text(name)
  for kind, inner in (("zip", "x.csv"), ("csv", "")):
    one, two = (Export(tmp_path / f"{name}.{kind}") for name in ("one", "two"))
    assert one.digest(inner or "one.csv") == one.digest(inner or "one.csv")
    assert one.digest(inner or "one.csv") != two.digest(inner or "two.csv")


@pytest.mark.parametrize(
  "name", ["../x.csv", "/x.csv", "a/../../x.csv", "C:x.csv", "..\\x.csv", "\\\\x.csv", "a\\..\\..\\x"]
)
def test_names_that_lead_outside_are_refused(tmp_path, name):
  with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
    packed.writestr(name, "")
  with pytest.raises(SchemaError, match="a name that leads outside"):
    Export(tmp_path / "bad.zip")


def test_backslashes_of_windows_separate_the_folders_of_a_zip(tmp_path):
  with zipfile.ZipFile(tmp_path / "win.zip", "w") as packed:
    for name in ("a\\", "a\\b\\x.csv"):
      info = zipfile.ZipInfo("x")
      info.filename = name  # the constructor would put the separator of this system in
      packed.writestr(info, "" if name.endswith("\\") else "1")
  export = Export(tmp_path / "win.zip")
  assert export.names == ["a/b/x.csv"] and export.size("a/b/x.csv") == 1
  with export.open("a/b/x.csv") as file:
    assert file.read() == b"1"


def test_what_gzip_has_packed_is_read_whatever_it_is_called(tmp_path):
  (tmp_path / "e").mkdir()
  packed = gzip.compress(b"[1, 2]")
  for name in ("a.fit.gz", "b.json", "c.tar.gz", "both.csv.gz"):
    (tmp_path / "e" / name).write_bytes(packed)
  (tmp_path / "e" / "both.csv").write_text("plain")
  with zipfile.ZipFile(tmp_path / "e.zip", "w") as file:
    file.writestr("a.fit.gz", packed)
    file.writestr("b.json", packed)
  for export in (Export(tmp_path / "e"), Export(tmp_path / "e.zip")):
    assert {"a.fit", "b.json"} <= set(export.names)
    assert export.json("b.json") == [1, 2] and export.where("a.fit").endswith("/a.fit.gz")
    with export.on_disk("a.fit") as path:
      assert path.read_bytes() == b"[1, 2]"
  assert Export(tmp_path / "e").names == ["a.fit", "b.json", "both.csv", "both.csv.gz", "c.tar.gz"]
  single = Export(tmp_path / "e" / "a.fit.gz")
  assert single.names == ["a.fit"] and single.participant == "a" and single.where("a.fit").endswith("a.fit.gz")


def test_damaged_gzip_and_what_expands_too_far_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(export_files, "EXPANSION_EXEMPT", 1000)
  packed = gzip.compress(bytes(10**6))
  for content, fault in (
    (packed, "expands to more than 200 times"),
    (packed[:50], "damaged"),
    (b"\x1f\x8bx", "damaged"),
  ):
    (tmp_path / "x.csv.gz").write_bytes(content)
    export = Export(tmp_path / "x.csv.gz")
    with pytest.raises(SchemaError, match=fault), export.open("x.csv") as file:
      file.read()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding):
  text = "[" + ", ".join(['"Müller 😀"'] * 10_000) + "]"
  mark = codecs.BOM_UTF16_BE * (encoding == "utf-16-be")
  (tmp_path / "x.json").write_bytes(mark + text.encode(encoding))
  export = Export(tmp_path / "x.json")
  assert export.json("x.json") == ["Müller 😀"] * 10_000
  assert export.encoding("x.json") == ("" if encoding == "utf-8-sig" else encoding[:6].upper())
  assert export.encoding_fault("x.json") is None


def test_zips_that_expand_too_far_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(export_files, "EXPANSION_EXEMPT", 1000)
  write_zip(tmp_path / "fair.zip", x_csv="0" * 1000)
  assert Export(tmp_path / "fair.zip").names == ["x.csv"]
  write_zip(tmp_path / "bomb.zip", x_csv="0" * 1_000_000)
  with pytest.raises(
    SchemaError, match=r"refused, 'x.csv' expands from [0-9,]+ to 1,000,000 bytes, more than 200 times"
  ):
    Export(tmp_path / "bomb.zip")


def test_links_are_refused(tmp_path):
  (tmp_path / "in").mkdir()
  (tmp_path / "in" / "x.csv").symlink_to("/etc/hostname")
  with pytest.raises(SchemaError, match=r"x\.csv: is a link"):
    Export(tmp_path / "in")


def test_damaged_files_are_named(tmp_path):
  with pytest.raises(SchemaError, match="no such file or folder"):
    Export(tmp_path / "none")
  (tmp_path / "text.zip").write_text("not a zip")
  with pytest.raises(SchemaError, match="not a zip, or a truncated one"):
    Export(tmp_path / "text.zip")
  with zipfile.ZipFile(tmp_path / "damaged.zip", "w") as packed:
    packed.writestr("x.csv", "a,b\n" * 99)
  (tmp_path / "damaged.zip").write_bytes((tmp_path / "damaged.zip").read_bytes().replace(b"a,b\na", b"a,c\na", 1))
  export = Export(tmp_path / "damaged.zip")
  with pytest.raises(SchemaError, match=r"damaged\.zip/x\.csv: damaged"), export.open("x.csv") as file:
    file.read()


@pytest.mark.parametrize(
  ("content", "message"), [(b"a\0b", "holds NUL bytes, expected UTF-8 text"), (b"a\xff", "not UTF-8 text")]
)
def test_what_is_not_text_is_refused(tmp_path, content, message):
  (tmp_path / "x.csv").write_bytes(content)
  export = Export(tmp_path / "x.csv")
  with pytest.raises(SchemaError, match=message), export.text("x.csv") as file:
    file.read()


def test_zips_inside_are_opened_one_level_deep(tmp_path):
  write_zip(tmp_path / "inner.zip", x_csv="a\n")
  write_zip(tmp_path / "middle.zip", inner=(tmp_path / "inner.zip").read_bytes())
  write_zip(tmp_path / "outer.zip", middle=(tmp_path / "middle.zip").read_bytes())
  with Export(tmp_path / "outer.zip").inside("middle") as middle:
    assert middle.where("inner") == f"{tmp_path}/outer.zip/middle/inner"
    with pytest.raises(SchemaError, match="a zip in a zip in a zip"), middle.inside("inner"):
      pass


def test_json_items_come_in_blocks(tmp_path, monkeypatch):
  monkeypatch.setattr(export_files, "ITEMS_BLOCK", 100)
  items = [{"n": n, "levels": [{"a": n}, {"b": "}, {"}]} for n in range(50)]
  (tmp_path / "whole.json").write_text(json.dumps(items))
  (tmp_path / "flat.json").write_text(json.dumps([{"n": n} for n in range(99)]))
  (tmp_path / "cut.json").write_text(json.dumps(items)[:-5])
  export = Export(tmp_path)
  assert [item for block in export.json_items("whole.json") for item in block] == items == export.json("whole.json")
  assert len(list(export.json_items("flat.json"))) > 5
  with pytest.raises(SchemaError, match=r"cut\.json: not JSON"):
    list(export.json_items("cut.json"))


def test_kinds_of_files():
  for name, kind in {
    "Fitbit/Global Export Data/heart_rate-2024-06-05.json": "heart_rate-#.json",
    "x/steps-2024-06-05 (1).json": "steps-#.json",
    "com.samsung.shealth.ecg.20240101120000.csv": "com.samsung.shealth.ecg.#.csv",
    "jsons/com.samsung.shealth.ecg/0/9b1c-11.binning_data.json": "com.samsung.shealth.ecg/#.binning_data.json",
    "takeout-20240131T120000Z-001.zip": "takeout-#.zip",
    "Minute SpO2 - 2024-06-04.csv": "Minute SpO2 - #.csv",
    "pulse-2024-06-01.json": "pulse-#.json",
    "notes.txt": "notes.txt",
    "anna1": "anna1",
  }.items():
    assert export_files.kind_of_file(name) == kind
