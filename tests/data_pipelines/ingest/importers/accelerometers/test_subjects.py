"""Whose recordings are."""

import pytest

from data_pipelines.ingest.importers.accelerometers.subjects import subject
from data_pipelines.ingest.reading.export_files import Export
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
