"""Files that are full of tricks, or no files at all, and disks that are full: one line, at once, and nothing left."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import resource
import subprocess
import time
import zipfile

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.build import main as build_main
from data_pipelines.dataset import Dataset
from data_pipelines.npz import NpzSource
from data_pipelines.text_files import read_fields
from tests import tiny
from tests.data_pipelines.ingest.long_tables import make_rows, run_build, to_text, write_csv

SECONDS = 20  # a bar against hanging, not a measurement


def refused(capsys, *arguments):
  """The error line of a build that must fail soon."""
  capsys.readouterr()
  started = time.monotonic()
  assert build_main(["build", *map(str, arguments)]) == 2
  assert time.monotonic() - started < SECONDS
  lines = capsys.readouterr().err.strip().splitlines()
  assert len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) < 600, lines
  return lines[0].removeprefix("error: ")


@pytest.fixture
def table(tmp_path):
  return write_csv(tmp_path, make_rows(3, days=1)[0])


@pytest.fixture
def pipe(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  return tmp_path / "pipe"


@pytest.mark.parametrize("flag", ["input", "recipe", "participants", "events", "anonymise", "split_file"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_refused_wherever_a_file_is_expected(tmp_path, table, pipe, capsys, flag, kind):
  path = pipe if kind == "pipe" else "/dev/zero"
  flags = {"source": "long_table", "input": table, "data_dir": tmp_path / "data", "name": "x"}
  for source in ("long_table", "npz", "auto") if flag == "input" else ("long_table",):
    given = flags | {"source": source} | {flag: path}
    assert (
      refused(capsys, *(f"--{key}={value}" for key, value in given.items())) == f"{path}: is a {kind}, expected a file"
    )


def test_text_in_another_encoding_is_called_what_it_is(tmp_path, table, capsys):
  labels = tmp_path / "labels.csv"
  labels.write_bytes("participant,city\nanna0,Köln\n".encode("latin-1"))
  common = ["--source=long_table", "--dry_run"]
  convert = "save it as UTF-8, or convert it: iconv -f"
  message = refused(capsys, *common, f"--input={table}", f"--participants={labels}")
  assert message.startswith(f"{labels}: not UTF-8 text, probably Latin-1 (Windows-1252); {convert} WINDOWS-1252")
  recipe = tmp_path / "recipe.yaml"
  recipe.write_bytes("signals: []\n".encode("utf-16"))
  message = refused(capsys, *common, f"--input={table}", f"--recipe={recipe}")
  assert message.startswith(f"{recipe}: not UTF-8 text, probably UTF-16; {convert} UTF-16")
  rows = table.read_text()
  table.write_bytes(rows.encode("utf-16-le"))  # without the byte order mark that would make it certain
  assert f"{table}: not UTF-8 text, probably UTF-16; {convert}" in refused(capsys, *common, f"--input={table}")
  table.write_bytes(rows.replace("anna1", "änna1").encode("latin-1"))
  assert f"{table}: not UTF-8 text, probably Latin-1" in refused(capsys, *common, f"--input={table}")


YAML_BOMB = "a: &a [x, x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a, *a]\n" for n in range(30)) + "signals: *b29\n"


RECIPES = {
  "lists": "[" * 50_000,
  "keys": "a: " * 50_000,
  "aliases": YAML_BOMB,
  "maps": "signals: " + "{a: " * 50_000,
  "dashes": "- " * 50_000,
  "digits": "9" * 100_000,
  "objects": "!!python/object:os.system x",
}


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_recipes_that_nest_or_expand(tmp_path, table, capsys, text):
  recipe = tmp_path / "recipe.yaml"
  recipe.write_text(text)
  message = refused(capsys, "--source=long_table", f"--input={table}", "--dry_run", f"--recipe={recipe}")
  assert message.startswith(f"{recipe}:")


def test_a_recipe_that_is_too_large(tmp_path, table, capsys):
  recipe = tmp_path / "recipe.yaml"
  recipe.write_text("# x\n" * 300_000)
  message = refused(capsys, "--source=long_table", f"--input={table}", "--dry_run", f"--recipe={recipe}")
  assert message == f"{recipe}: 1,200,000 bytes, expected at most 1,048,576"


@pytest.mark.parametrize(
  "labels", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, '{"p0": ' + "[" * 31 + "]" * 31 + "}"]
)
def test_labels_of_an_npz_that_nest(tmp_path, capsys, labels):
  np.savez(tmp_path / "x.npz", **tiny.arrays() | {"labels": np.array(labels)})
  message = refused(capsys, "--source=npz", f"--input={tmp_path / 'x.npz'}", "--dry_run")
  assert message.startswith(f"{tmp_path / 'x.npz'}: key 'labels'")


def test_a_zip_bomb(tmp_path, capsys):
  with (
    zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed,
    packed.open("rows.csv", "w") as file,
  ):
    block = bytes(2**20)
    for _ in range(100):
      file.write(block)
  message = refused(capsys, "--source=auto", f"--input={tmp_path / 'bomb.zip'}", "--dry_run")
  assert "refused, 'rows.csv' expands from" in message and "more than 200 times" in message


def test_an_npz_whose_header_claims_more_than_there_is(tmp_path, capsys):
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**30, 1440, 26)})
  arrays = tiny.arrays()
  del arrays["values"]
  np.savez(tmp_path / "x.npz", **arrays)
  with zipfile.ZipFile(tmp_path / "x.npz", "a") as packed:
    packed.writestr("values.npy", header.getvalue())
  message = refused(capsys, "--source=npz", f"--input={tmp_path / 'x.npz'}", "--dry_run")
  assert message.startswith(f"{tmp_path / 'x.npz'}: key 'values'")


def test_tables_for_people_hold_no_formulas(tmp_path):
  """Names from the data reach account.csv and the atlas; a spreadsheet must not run them."""
  rows, _ = make_rows(2, days=1)
  evil = '=HYPERLINK("http://x")'
  rows = [(evil.replace('"', "'") if who == "anna1" else who, *rest) for who, *rest in rows]
  rows.append((rows[-1][0], "no time", "heart_rate", "60", "bpm"))
  path = tmp_path / "+1.csv"
  path.write_text(to_text(rows))
  flags = [f"--data_dir={tmp_path / 'data'}", "--name=x", "--minutes_per_step=5", "--split=1,0,0"]
  assert run_build("--source=long_table", f"--input={path}", *flags) == 0
  account = Dataset.open(tmp_path / "data", "x").path / "account.csv"
  fields = [field for row in csv.reader(account.open(newline="")) for field in row]
  assert not [field for field in fields if field[:1] in tuple("=+-@\t\r")]
  with account.open(newline="") as file:
    assert evil.replace('"', "'") in {row[0] for row in read_fields(csv.reader(file))}


@contextlib.contextmanager
def largest_file(size):
  """A limit on the size of files, which a write meets as it would a quota or a full disk."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def nothing_left(data_dir):
  return not [
    path for path in data_dir.rglob("*") if path.is_file() and path.suffix != ".lock" and ".importing" not in path.parts
  ]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [1_000, 100_000])
def test_a_disk_that_is_full_while_a_dataset_is_written(tmp_path, capsys, size, workers):
  tiny.write_npz(tmp_path / "x.npz", people=200, days=1, minutes_per_step=5)
  flags = ["--source=npz", f"--input={tmp_path / 'x.npz'}", f"--data_dir={tmp_path / 'data'}", "--name=x"]
  flags += [f"--workers={workers}"]
  with largest_file(size):
    message = refused(capsys, *flags)
  assert message.startswith(f"{tmp_path}/data") and "File too large" in message
  assert nothing_left(tmp_path / "data")
  assert build_main(["build", *flags]) == 0


@pytest.mark.parametrize("size", [200, 20_000])
def test_a_disk_that_is_full_while_an_export_is_read(tmp_path, table, capsys, size):
  rows, _ = make_rows(30, days=2)
  table.write_text(to_text(rows))
  flags = ["--source=long_table", f"--input={table}", f"--data_dir={tmp_path / 'data'}", "--name=x"]
  flags += ["--minutes_per_step=5"]
  with largest_file(size):
    message = refused(capsys, *flags)
  assert "File too large" in message
  assert nothing_left(tmp_path / "data")
  assert build_main(["build", *flags]) == 0  # continues
  assert Dataset.open(tmp_path / "data", "x").num_days("pretrain")


def test_a_small_disk(tmp_path, capsys):
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
  if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip("a small file system cannot be mounted here")
  try:
    tiny.write_npz(tmp_path / "x.npz", people=400, days=1, minutes_per_step=5)
    flags = ["--source=npz", f"--input={tmp_path / 'x.npz'}", f"--data_dir={disk}", "--name=x"]
    assert "No space left on device" in refused(capsys, *flags)
    assert nothing_left(disk)
  finally:
    subprocess.run(["umount", str(disk)], check=True)


def test_an_existing_dataset_survives_a_full_disk(tmp_path, capsys):
  dataset = tiny.dataset(tmp_path)
  digest = dataset.digest
  tiny.write_npz(tmp_path / "y.npz", people=200, days=1, minutes_per_step=5)
  with largest_file(100_000):
    refused(
      capsys,
      "--source=npz",
      f"--input={tmp_path / 'y.npz'}",
      f"--data_dir={tmp_path / 'data'}",
      "--name=tiny",
      "--overwrite",
    )
  assert Dataset.open(tmp_path / "data", "tiny").digest == digest
  build(NpzSource(tmp_path / "y.npz"), tmp_path / "data", "tiny", overwrite=True)
  assert Dataset.open(tmp_path / "data", "tiny").digest != digest


def test_a_full_disk_does_not_stop_reading_and_leaves_no_piece(tmp_path):
  dataset = tiny.dataset(tmp_path, people=100)
  before = {path.name for path in dataset.path.iterdir()}
  with largest_file(10):
    shares = dataset.missing_shares("pretrain")
  assert {path.name for path in dataset.path.iterdir()} == before
  np.testing.assert_array_equal(dataset.missing_shares("pretrain"), shares)
  assert {path.name for path in dataset.path.iterdir()} == before | {"missing_pretrain.npz"}


def test_a_recipe_that_cannot_be_written_is_told_before_the_work(tmp_path, table, capsys, monkeypatch):
  monkeypatch.setattr("data_pipelines.ingest.command.ImportedSource", None)  # not reached
  flags = ["--source=long_table", f"--input={table}", "--dry_run"]
  assert refused(capsys, *flags, f"--write_recipe={table}") == f"{table}: file exists"
  path = tmp_path / "no" / "recipe.yaml"
  message = refused(capsys, *flags, f"--write_recipe={path}")
  assert message == f"{path}: cannot be written: {path.parent} is no folder that may be written to"


@pytest.mark.parametrize("kind", ["readings/*.json", "readings/*.parquet", "days/*.json", "days/*.bin"])
def test_an_import_continues_after_damage_to_what_it_had_stored(tmp_path, table, capsys, monkeypatch, kind):
  flags = ["--source=long_table", f"--input={table}", f"--data_dir={tmp_path / 'data'}", "--minutes_per_step=5"]
  flags += ["--split=1,0,0"]
  assert build_main(["build", *flags, "--name=whole"]) == 0
  with monkeypatch.context() as patch:
    patch.setattr("data_pipelines.build.Digests.of_folder", None)  # fails once the days are stored
    assert build_main(["build", *flags, "--name=x"]) == 1
  (stored,) = (tmp_path / "data").rglob(kind)
  damaged = bytearray(stored.read_bytes())
  damaged[len(damaged) // 2] ^= 1
  stored.write_bytes(damaged)
  assert build_main(["build", *flags, "--name=x"]) == 0
  assert Dataset.open(tmp_path / "data", "x").digest == Dataset.open(tmp_path / "data", "whole").digest


def test_an_interrupted_import_is_not_continued_with_other_columns_or_times(tmp_path, capsys):
  rows = [f"kim,03/04/2024 00:{minute:02d},60,100" for minute in range(60)]
  (tmp_path / "t.csv").write_text("\n".join(["participant,when,pulse,pulse2", *rows]) + "\n")
  flags = ["--source=long_table", f"--input={tmp_path / 't.csv'}", f"--data_dir={tmp_path / 'data'}", "--name=x"]
  columns = "--columns=participant=participant,time=when,heart_rate="
  day_first, month_first = "--time_format=%d/%m/%Y %H:%M", "--time_format=%m/%d/%Y %H:%M"
  assert "no day is left" in refused(capsys, *flags, columns + "pulse", day_first)
  assert build_main(["build", *flags, "--max_missing=1", "--split=1,0,0", columns + "pulse2", month_first]) == 0
  (day,) = Dataset.open(tmp_path / "data", "x").days("pretrain")
  assert day["date"] == b"2024-03-04" and np.nanmax(day["values"]) == 100


def test_an_interrupted_import_is_not_continued_by_a_strict_one(tmp_path, capsys):
  rows = [f"kim,2024-03-04 00:{minute:02d},60" for minute in range(60)]
  (tmp_path / "t.csv").write_text("\n".join(["participant,time,heart_rate", *rows, "kim,2024-03-04"]) + "\n")
  flags = ["--source=long_table", f"--input={tmp_path / 't.csv'}", f"--data_dir={tmp_path / 'data'}", "--name=x"]
  assert "no day is left" in refused(capsys, *flags)
  assert "row 62: more or fewer fields" in refused(capsys, *flags, "--strict", "--max_missing=1")


@pytest.mark.slow
def test_more_devices_than_a_small_number_counts(tmp_path):
  rows = [f"kim,2024-03-04 {n // 60 % 24:02d}:{n % 60:02d},d{n},{60 + n % 9}" for n in range(33_000)]
  (tmp_path / "t.csv").write_text("\n".join(["participant,time,device,heart_rate", *rows]) + "\n")
  flags = ["--source=long_table", f"--input={tmp_path / 't.csv'}", f"--data_dir={tmp_path / 'data'}", "--name=x"]
  assert build_main(["build", *flags, "--split=1,0,0"]) == 0
