"""Whose recordings are."""

import collections

import pytest

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.importers.accelerometers.subjects import subject
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.input_files import ExportSet
from tests.data_pipelines.ingest.importers.accelerometers import gt3x_files
from tests.data_pipelines.ingest.importers.accelerometers.test_accelerometer import EIGHT, FILES, moving
from tests.data_pipelines.ingest.long_tables import run_build


@pytest.mark.parametrize(
  ("name", "expected"), [("actigraph.gt3x", "Adam_Test"), ("axivity_ax3.cwa", "26"), ("geneactiv.bin", "")]
)
def test_subjects_of_real_files(name, expected):
  assert subject(Export(FILES), name) == expected


def test_subjects_of_names_and_first_lines(tmp_path):
  (tmp_path / "a.bin").write_bytes(
    (FILES / "geneactiv.bin").read_bytes().replace(b"Subject Code:", b"Subject Code:KIM 7")
  )
  export = Export(tmp_path)
  assert subject(export, "a.bin") == "KIM 7"
  assert subject(export, "x/KIM (2024-06-04)60sec.csv") == "KIM" and subject(export, "KIM.csv") == ""


def test_files_without_a_subject_are_nobodys_before_it_is_said(tmp_path, capsys):
  for who in ("kim", "sam"):
    (tmp_path / who).mkdir()
    log = gt3x_files.log_of(EIGHT, moving(20, seed=len(who) + ord(who[0])))
    gt3x_files.write(tmp_path / who / "raw.gt3x", log, rate=30)
  flags = ["--source=accelerometer", f"--input={tmp_path}", "--dry_run", "--max_missing=1"]
  assert run_build(*flags) == 2
  assert "give --one_person if they are, or else --person_by" in capsys.readouterr().err
  assert run_build(*flags, "--person_by=folder") == 0
  assert "would build 2 days of 2 people" in capsys.readouterr().out


def people_of(folder, person_by=None, source="accelerometer"):
  """The names of each person's files."""
  export_set = ExportSet(folder, IMPORTERS[source], person_by)
  files = collections.defaultdict(set)
  for n, name in export_set.files:
    files[export_set.exports[n].participant].add(name)
  return files


def recordings(folder, subjects):
  """Short recordings of the subjects by name of file."""
  for name, who in subjects.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    gt3x_files.write(folder / name, gt3x_files.log_of(EIGHT, moving(1)), rate=30, subject=who)
  return folder


def test_what_the_user_says_overrides_the_subjects_of_files(tmp_path):
  folder = recordings(tmp_path / "in", {"a/left.gt3x": "1", "a/right.gt3x": "1", "b/raw.gt3x": "2"})
  left, right, raw = "a/left.gt3x", "a/right.gt3x", "b/raw.gt3x"
  assert people_of(folder) == people_of(folder, "account") == {"1": {left, right}, "2": {raw}}
  assert people_of(folder, "folder") == {"a": {left, right}, "b": {raw}}
  assert people_of(folder, "file") == {"left": {left}, "right": {right}, "raw": {raw}}
  assert people_of(folder, "one") == {"in": {left, right, raw}}


def test_the_same_subject_in_two_folders_is_asked_about(tmp_path):
  folder = recordings(tmp_path / "in", {"a/x.gt3x": "1", "b/y.gt3x": "1", "b/z.gt3x": "2"})
  with pytest.raises(SchemaError, match=r"in: a and b both name the subject '1' .*--person_by=account if .*=folder or"):
    people_of(folder)
  assert people_of(folder, "account") == {"1": {"a/x.gt3x", "b/y.gt3x"}, "2": {"b/z.gt3x"}}
  assert people_of(folder, "folder") == {"a": {"a/x.gt3x"}, "b": {"b/y.gt3x", "b/z.gt3x"}}


def test_a_file_without_a_subject_beside_one_with_it_is_asked_about(tmp_path):
  with pytest.raises(SchemaError, match="do not say whether they are one person's"):
    people_of(recordings(tmp_path / "in", {"x.gt3x": "1", "y.gt3x": ""}))


def test_subjects_in_the_names_of_fitabases_files_are_asked_about_in_the_same_way(tmp_path):
  for folder in "ab":
    (tmp_path / "in" / folder).mkdir(parents=True)
    text = "Time,Value\n6/4/2024 8:00:00 AM,61\n"
    (tmp_path / "in" / folder / "P1_heartrate_seconds_20240604.csv").write_text(text)
  with pytest.raises(SchemaError, match="a and b both name the subject 'P1'"):
    people_of(tmp_path / "in", source="fitabase")
  assert [*people_of(tmp_path / "in", "account", "fitabase")] == ["P1"]
  assert [*people_of(tmp_path / "in", "folder", "fitabase")] == ["a", "b"]
