"""An input that nothing reads: the message names what is there, and the command that it offers works."""

import gzip
import re
import shlex
import sqlite3
import subprocess
import tarfile

import pytest

from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.reading.export_files import Export
from tests.data_pipelines.ingest.long_tables import run_build

TABLES = {
  "ring.csv": "timestamp;bpm;source\n2024-06-04T06:00:00.000Z;61;awake\n2024-06-04T06:05:00.000Z;62;awake\n",
  "recorded.csv": "user id,recorded at,pulse,Steps\nkim,2024-06-04 08:00,61,5\nkim,2024-06-04 08:01,62,6\n",
  "types.tsv": "timestamp\tvalue\ttype\n1717480800\t61\theart_rate\n1717480860\t62\theart_rate\n",
  "german.csv": "zeit;puls;heartRate\n04.06.2024 08:00;x;61,5\n04.06.2024 08:01;x;62,5\n",
}
OTHERS = {
  "notes.txt": b"one\ntwo\n",
  "data.json": b'{"heart_rate": [{"bpm": 61}]}',
  "zepp.csv": b"date,time,heartRate\n2024-06-04,08:00,61\n",
  "daily.csv": b"date,steps\n2024-06-04,5000\n",
  "empatica.csv": b"1717480800.0\n1.0\n61.0\n",
}


def refusal(capsys, *flags):
  assert run_build("--dry_run", "--timezone=Europe/Berlin", *flags) == 2
  errors = capsys.readouterr().err.strip().splitlines()
  assert len(errors) == 1
  return errors[0]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("source", ["auto", "fitbit"])
def test_the_command_that_is_offered_for_a_table_works(tmp_path, capsys, name, source):
  (tmp_path / name).write_text(TABLES[name])
  message = refusal(capsys, f"--source={source}", f"--input={tmp_path / name}")
  assert f"found {name} (columns " in message
  flags = shlex.split(re.search(r"--source=long_table --columns=.*$", message)[0])
  assert (
    run_build(*flags, f"--input={tmp_path / name}", "--dry_run", "--max_missing=1", "--timezone=Europe/Berlin") == 0
  )
  output = capsys.readouterr().out
  assert "- heart_rate (bpm): mean, 0.14 % of steps, 61" in output and " 2 kept, 0 dropped" in output.replace(
    "4 kept", "2 kept"
  )


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_is_offered_for_what_would_not_work(tmp_path, capsys, name):
  (tmp_path / name).write_bytes(OTHERS[name])
  message = refusal(capsys, "--source=auto", f"--input={tmp_path}")
  assert f"found {name}" in message and "--columns" not in message and 'the page "Your own data"' in message


@pytest.mark.parametrize("beside", ("x.csv", None))
def test_files_that_cannot_be_unpacked_end_no_search(tmp_path, beside):
  names = [
    f"x.{ending}" for ending in ("xml", "json", "parquet", "tsv", "zip", "npz", "gt3x", "cwa", "bin", "db", "fit")
  ]
  for name in (*names, "sleep.json", "exercise.json", "heart_rate.json", "2024-06-04.csv", "sleep.csv"):
    (tmp_path / name).write_bytes(b"\x1f\x8b no gzip")
  if beside:
    (tmp_path / beside).write_text("time,channel,value\n2024-06-04 08:00,heart_rate,61\n")
  export = Export(tmp_path)
  found = {kind: importer.files(export) for kind, importer in IMPORTERS.items()}
  assert found["long_table"] == [beside] * bool(beside) and not found["apple"] and not found["fitbit"]
  for name in ("x.xml", "sleep.json"):
    alone = Export(tmp_path / name)
    assert not any(importer.files(alone) for importer in IMPORTERS.values())


def test_archives_are_named_with_the_command_that_unpacks_them(tmp_path, capsys):
  (tmp_path / "e").mkdir()
  (tmp_path / "e" / "x.csv").write_text("time,channel,value\n2024-06-04 08:00,heart_rate,61\n")
  for name in ("takeout.tgz", "takeout.tar.gz"):
    with tarfile.open(tmp_path / name, "w:gz") as archive:
      archive.add(tmp_path / "e" / "x.csv", "x.csv")
    message = refusal(capsys, "--source=auto", f"--input={tmp_path / name}")
    assert f"unpack it: mkdir NEW && tar -xf {tmp_path / name} -C NEW, then --input=NEW" in message
    command = re.search(r"unpack it: (.*), then --input=NEW", message)[1].replace("NEW", f"{tmp_path / name}.d")
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0
    assert run_build("--dry_run", "--source=auto", f"--input={tmp_path / name}.d", "--max_missing=1") == 0


@pytest.mark.parametrize(
  ("name", "command"), [("my watch.7z", "7z x 'my watch.7z' -oNEW"), ("watch.RAR", "unrar x watch.RAR NEW/")]
)
def test_archives_of_other_tools_are_named_with_theirs(tmp_path, capsys, name, command, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / name).write_bytes(b"7z or rar")
  assert f"unpack it: mkdir NEW && {command}, then --input=NEW" in refusal(capsys, "--source=auto", f"--input={name}")
  (tmp_path / "x.csv").write_text("time,channel,value\n2024-06-04 08:00,heart_rate,61\n")
  assert run_build("--dry_run", "--source=auto", "--input=.", "--max_missing=1") == 0
  tool = command.split(" ")[0]
  assert re.search(rf"archive, to be unpacked first: {tool} x FILE .*: {name}", capsys.readouterr().out)


def test_other_databases_and_many_files(tmp_path, capsys):
  with sqlite3.connect(tmp_path / "tracker.db") as connection:
    connection.execute("CREATE TABLE samples (bpm)")
  for day in range(1, 4):
    (tmp_path / f"pulse-2024-06-0{day}.json").write_text("{}")
    (tmp_path / f"log{day}.bin.gz").write_bytes(gzip.compress(b"x"))
  message = refusal(capsys, "--source=auto", f"--input={tmp_path}")
  assert "found pulse-#.json 3, " in message and "tracker.db" in message and "log1.bin" in message


@pytest.mark.parametrize(
  ("flags", "fault"),
  [
    (["--source=fitbit", "--columns=time=x,heart_rate=y"], "--columns and --time_format are for tables"),
    (["--source=long_table", "--columns=heart_rate=y"], "--columns has no time=COLUMN"),
    (["--source=long_table", "--columns=time"], "--columns has 'time', expected NAME=COLUMN"),
    (["--source=long_table", "--columns=time=x,time=y"], "--columns has a name more than once"),
    (["--source=long_table", "--columns=time=x,spo2=x"], "--columns has a name more than once"),
  ],
)
def test_columns_are_checked(tmp_path, capsys, flags, fault):
  (tmp_path / "x.csv").write_text("x,y\n1,2\n")
  assert fault in refusal(capsys, *flags, f"--input={tmp_path}")
