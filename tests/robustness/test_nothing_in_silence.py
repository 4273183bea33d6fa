"""Whatever an import or a build skips is counted and named: links, hidden and empty files, folders, labels."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import stat
import tempfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import data_pipelines
from data_pipelines.build import build
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.labels_csv import ParticipantTable
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.npz import NpzSource
from tests import tiny
from tests.data_pipelines.ingest.long_tables import make_rows, run_build, to_text, write_exports
from tests.robustness.imported_days import import_days

WRITE = ["--minutes_per_step=5", "--split=1,0,0", "--name=mine"]


@pytest.fixture
def exports(tmp_path):
  """A folder with one folder per person, each with one table."""
  rows, _ = make_rows(3, days=1)
  return write_exports(tmp_path, rows)


def dry_run(folder, capsys, *flags):
  code = run_build(
    "--source=auto", f"--input={folder}", "--dry_run", "--minutes_per_step=5", "--person_by=folder", *flags
  )
  captured = capsys.readouterr()
  return code, captured.out, captured.err


def people(output):
  (line,) = [line for line in output.splitlines() if line.startswith("would build")]
  return int(line.split(" people")[0].split()[-1])


def test_a_person_whose_folder_is_a_link_is_read(exports, tmp_path, capsys):
  elsewhere = tmp_path / "elsewhere"
  first, *_ = sorted(exports.iterdir())
  shutil.move(first, elsewhere)
  first.symlink_to(elsewhere, target_is_directory=True)
  code, output, _ = dry_run(exports, capsys)
  assert code == 0 and people(output) == 3
  assert f"note: followed 1 link in the input ({first.name})" in output


def test_links_that_cannot_be_followed_are_refused(exports, capsys):
  person = sorted(exports.iterdir())[0]
  for place, target, message in (
    (exports / "again", exports, f"{exports}/again: is a link to a folder that holds it"),
    (exports / "gone", "/no/such/place", f"{exports}/gone: is a link to nothing"),
    (person / "inside", "/etc", f"{person}/inside: is a link; links in an export are not followed, put there what"),
    (person / "file.csv", "/etc/passwd", f"{person}/file.csv: is a link; links in an export are not followed"),
  ):
    place.symlink_to(target)
    for source in ("auto", "long_table"):
      assert run_build(f"--source={source}", f"--input={exports}", "--dry_run") == 2
      errors = capsys.readouterr().err.splitlines()
      assert len(errors) == 1 and errors[0].startswith("error: ")
      assert message in errors[0] or (place.name == "again" and "is a link" in errors[0])
    place.unlink()


def test_what_is_not_read_is_named(exports, capsys):
  first, second, third = sorted(exports.iterdir())
  for file in third.iterdir():
    file.rename(file.with_suffix(".backup"))
  (third / "german.csv").write_bytes("time,channel,värde\n".encode("latin-1"))
  (exports / "notes.txt").write_text("loose")
  (first / ".hidden.csv").write_text("x")
  (first / ".git").mkdir()
  (second / "empty.csv").touch()
  (second / "photo.jpg").write_bytes(b"x")
  os.mkfifo(second / "pipe.csv")
  code, output, _ = dry_run(exports, capsys)
  assert code == 0 and people(output) == 2
  *_, account = output.partition("not read: 8 files of 8 kinds\n")
  assert account.count("\n") == 7, output  # it is the end
  for line in (
    f"1  without a file that the importer reads: {third.name}",
    f"1  in another encoding than UTF-8: {third.name}/german.csv",
    "1  beside the folders and zips of people: notes.txt",
    f"2  hidden: {first.name}/.hidden.csv, {first.name}/.git",
    f"1  neither a file nor a folder: {second.name}/pipe.csv",
    f"1  empty: {second.name}/empty.csv",
    f"1  of no kind that the importer reads: {second.name}/photo.jpg",
  ):
    assert f" {line}\n" in account, output


def test_notes_are_kept_with_the_dataset_without_names_if_it_is_anonymous(exports, tmp_path, capsys):
  (exports / "holiday").mkdir()
  (tmp_path / "key").write_bytes(b"k" * 32)
  labels = tmp_path / "labels.csv"
  labels.write_text("participant,age\nstranger,4\n")
  common = [f"--input={exports}", f"--data_dir={tmp_path / 'data'}", f"--participants={labels}", *WRITE]
  common += ["--person_by=folder"]
  for flags, named in (((), True), ((f"--anonymise={tmp_path / 'key'}", "--overwrite"), False)):
    assert run_build("--source=long_table", *common, *flags) == 0
    card = (Dataset.open(tmp_path / "data", "mine").path / "README.md").read_text()
    printed = capsys.readouterr().out
    assert ("holiday" in card, "stranger" in card, "anna" in card) == (named, named, named)
    for text in (card, printed):
      assert "not read: 1 file of 1 kind\n" in text and "1  without a file that the importer reads: " in text
      assert "1 of the labelled participants have no day in the exports" in text
      assert "no row in --participants for 3 people" in text


def test_members_of_zips_that_are_no_files_are_left_out(tmp_path):
  with zipfile.ZipFile(tmp_path / "e.zip", "w") as packed:
    packed.writestr("a/steps.csv", "x")
    packed.writestr("__MACOSX/a/._steps.csv", "x")
    packed.writestr("a/.DS_Store", "x")
    link = zipfile.ZipInfo("a/link.csv")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    packed.writestr(link, "/etc/passwd")
  export = Export(tmp_path / "e.zip")
  assert export.names == ["a/steps.csv"]
  assert export.left_out == {
    "hidden": ["__MACOSX/a/._steps.csv", "a/.DS_Store"],
    "neither a file nor a folder": ["a/link.csv"],
  }


@contextlib.contextmanager
def without_privileges():
  """An ordinary user, whom permissions stop."""
  user = os.geteuid()
  if not user:
    os.seteuid(65534)
  try:
    yield
  finally:
    os.seteuid(user)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_may_not_be_read_is_refused(kind):
  with tempfile.TemporaryDirectory() as name:
    os.chmod(name, 0o755)
    folder = pathlib.Path(name) / "export"
    (folder / "p1").mkdir(parents=True)
    file = folder / "p1" / "rows.csv"
    file.write_text(to_text(make_rows(1, days=1)[0]))
    locked = folder / "p1" if kind == "folder" else file
    locked.chmod(0)
    with without_privileges(), pytest.raises(SchemaError, match=f"{locked}: .*permission denied"):
      export = Export(folder)
      with export.open("p1/rows.csv") as opened:
        opened.read()
    locked.chmod(0o755)


LABELS = """participant,age,smoker,city,diet,score,height
a,31,true,Bonn,None,1.5,180
b,NA,false,NA,vegan,n/a,tall
c,NaN,NA,Rome,none,#N/A,170
d,null,.,,.,None,175
e,40,true,Oslo,vegan,2.5,160
"""


def test_words_for_missing_numbers_keep_a_column_numeric(tmp_path):
  path = tmp_path / "labels.csv"
  path.write_text(LABELS)
  table = ParticipantTable.load(path)
  column = lambda name: [labels[name] for labels in table.labels.values()]
  assert column("age") == [31, None, None, None, 40]
  assert column("smoker") == [True, False, None, None, True]
  assert column("score") == [1.5, None, None, None, 2.5]
  assert column("city") == ["Bonn", None, "Rome", None, "Oslo"]
  assert column("diet") == ["None", "vegan", "none", ".", "vegan"]
  assert column("height") == ["180", "tall", "170", "175", "160"]
  assert table.notes == [
    f"{path}: label 'age': 3 of 5 fields taken for missing ('NA' 1, 'NaN' 1, 'null' 1)",
    f"{path}: label 'smoker': 2 of 5 fields taken for missing ('NA' 1, '.' 1)",
    f"{path}: label 'city': 1 of 5 fields taken for missing ('NA' 1)",
    f"{path}: label 'score': 3 of 5 fields taken for missing ('n/a' 1, '#N/A' 1, 'None' 1)",
    f"{path}: label 'height': is text; of 5 fields 1 cannot be read as numbers (first: row 3, 'tall')",
  ]


def test_words_among_the_numbers_of_an_npz_are_missing_too(tmp_path, capsys):
  labels = {"p0": {"age": 40}, "p1": {"age": "NA"}, "p2": {"age": 41.5}}
  np.savez(tmp_path / "x.npz", **tiny.arrays() | {"labels": np.array(json.dumps(labels))})
  dataset = build(NpzSource(tmp_path / "x.npz"), tmp_path / "data", "x")
  table = dataset.participants()
  ages = dict(zip(table["participant"].to_pylist(), table["age"].to_pylist(), strict=True))
  assert (ages["p0"], ages["p1"], ages["p2"]) == (40, None, 41.5)
  assert "note: label 'age': 1 of 8 values taken for missing (such as 'NA')" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    (
      {"p0": {"age": 40}, "p1": {"age": "old"}},
      r"label 'age' mixes int \('p0': 40\), str \('p1': 'old'\), expected one",
    ),
    ({"p0": {"split": 1}}, r"label 'split' \(of participant 'p0'\) has the name of a column"),
    ({"p0": {"a\x1b[2J": 1}}, r"participant 'p0': label 'a\\x1b\[2J' has control characters"),
  ],
)
def test_labels_that_cannot_be_stored_name_the_person(tmp_path, labels, message):
  arrays = tiny.arrays() | {"labels": np.array(json.dumps(labels))}
  np.savez(tmp_path / "days.npz", **arrays)
  with pytest.raises(SchemaError, match=message) as caught:
    build(NpzSource(tmp_path / "days.npz"), tmp_path / "data", "x")
  assert "control" in message or str(caught.value).startswith(f"{tmp_path / 'days.npz'}: key 'labels': ")


def test_a_participant_with_control_characters_is_refused(tmp_path):
  arrays = tiny.arrays()
  arrays["participant"] = np.array([f"{name}\x1b[2J" for name in arrays["participant"]])
  np.savez(tmp_path / "days.npz", **arrays | {"labels": np.array("{}")})
  with pytest.raises(SchemaError, match=r"participant 'p\d\\x1b\[2J': id .* has control characters"):
    build(NpzSource(tmp_path / "days.npz"), tmp_path / "data", "x")


@pytest.mark.parametrize("word", ["#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!"])
def test_an_error_of_a_spreadsheet_is_no_label(tmp_path, word):
  path = tmp_path / "labels.csv"
  path.write_text(f"participant,age\na,40\nb,{word}\nc,41\n")
  with pytest.raises(
    SchemaError,
    match=re.escape(f"{path} row 3: participant 'b', label 'age': found {word!r}, an error of a spreadsheet"),
  ):
    ParticipantTable.load(path)


@pytest.mark.parametrize("number", ["1e400", "-1e999", "inf"])
def test_an_infinite_label_in_a_csv_is_refused(tmp_path, number):
  path = tmp_path / "labels.csv"
  path.write_text(f"participant,age\na,40\nb,{number}\n")
  with pytest.raises(
    SchemaError, match=f"{path} row 3: participant 'b', label 'age': found '{number}', expected a finite"
  ):
    ParticipantTable.load(path)


@pytest.mark.parametrize("flag", ["--data_dir=gs:/bucket/data", "--input=s3:/bucket/days.npz"])
def test_one_slash_is_no_remote_path(tmp_path, monkeypatch, capsys, flag):
  monkeypatch.chdir(tmp_path)
  tiny.write_npz(tmp_path / "days.npz")
  flags = ["--source=npz", "--input=days.npz", "--data_dir=data", "--name=x", flag]
  assert run_build(*flags) == 2
  path = flag.partition("=")[2]
  assert f"error: {path}: did you mean {path.replace(':/', '://')}?" in capsys.readouterr().err
  assert [entry.name for entry in tmp_path.iterdir()] == ["days.npz"]


def test_a_long_name_is_refused_by_its_flag(tmp_path, capsys):
  path = tiny.write_npz(tmp_path / "days.npz")
  name = "n" * 300
  assert run_build("--source=npz", f"--input={path}", f"--data_dir={tmp_path / 'data'}", f"--name={name}") == 2
  assert "error: dataset name (--name) has 300 characters, expected at most 200" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_that_do_not_say_whose_they_are_are_counted(tmp_path, suffix):
  minutes = [f"2024-03-01 {hour:02d}:{minute:02d}" for hour in range(24) for minute in range(60)]
  rows = [("kim", minute, "heart_rate", 60.0) for minute in minutes]
  rows += [(None, minutes[0], "heart_rate", 90.0), ("  ", minutes[1], "heart_rate", 91.0)]
  rows += [(word, minutes[2], "heart_rate", 92.0) for word in ("NA", "nan", "None")]
  rows += [("kim", minutes[3], "", 93.0), ("kim", minutes[4], None, 94.0)]
  names = ["participant", "time", "channel", "value"]
  table = pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))
  path = tmp_path / f"study.{suffix}"
  (pq.write_table if suffix == "parquet" else pyarrow.csv.write_csv)(table, path)
  imported = import_days(path, "long_table")
  assert [person for person, *_ in imported.values] == ["kim"] and {*imported.of("heart_rate").values()} == {60.0}
  assert imported.dropped == {"no participant": 5, "no channel": 2}
  assert any("no participant" in line and f"{path} row {1442 if suffix == 'csv' else 1441}" in line
             for line in imported.lines), imported.lines  # fmt: skip


def test_a_frame_with_a_row_of_nobody_is_refused(tmp_path):
  frame = pd.DataFrame(
    {"participant": ["kim", None], "time": pd.to_datetime(["2024-03-01"] * 2), "heart_rate": [60, 70]}
  )
  with pytest.raises(SchemaError, match="frame: row 1 has no participant; of 2 rows 1 have none"):
    data_pipelines.from_frame(frame, tmp_path, "kim")
  frame["participant"] = ["kim", "nan"]
  with pytest.raises(SchemaError, match="frame: participant 'nan' of 1 rows is nobody's name"):
    data_pipelines.from_frame(frame, tmp_path, "kim")
