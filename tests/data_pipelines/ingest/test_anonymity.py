"""Anonymised datasets: nothing personal is in any file or printed line, and values are unchanged."""

import datetime

import numpy as np
import pyarrow.parquet as pq

from data_pipelines.dataset import Dataset
from data_pipelines.ingest.anonymity import Anonymity
from tests.data_pipelines.ingest.long_tables import dataset_values, make_rows, run_build, write_csv


def test_nothing_personal_is_in_an_anonymous_dataset(tmp_path, capsys):
  rows, expected = make_rows(8)
  rows = [(f"Ännchen-{who}", *rest) for who, *rest in rows]
  rows.append(("Ännchen-anna0", "nonsense", "heart_rate", "1", "bpm"))
  folder = tmp_path / "Ännchens Studie"
  folder.mkdir()
  path = write_csv(folder, rows)
  (tmp_path / "key").write_bytes(bytes(range(100, 132)))
  (tmp_path / "labels.csv").write_text("participant,age\nÄnnchen-anna1,77\n")
  (tmp_path / "events.csv").write_text(
    "participant,start,end,name\nÄnnchen-anna1,2024-03-04T10:00,2024-03-04T11:00,walk\n"
  )
  flags = [f"--participants={tmp_path / 'labels.csv'}", f"--events={tmp_path / 'events.csv'}", "--minutes_per_step=5"]
  flags += [f"--input={path}", "--source=auto", f"--data_dir={tmp_path / 'data'}", f"--anonymise={tmp_path / 'key'}"]
  assert run_build(*flags, "--name=mine") == 0
  assert run_build(*flags, "--dry_run") == 0
  printed = capsys.readouterr()
  for secret in ("Ännchen", "anna", "study.csv", "2024-03"):
    assert secret not in printed.out + printed.err
    for file in (tmp_path / "data").rglob("*"):
      assert secret not in str(file.relative_to(tmp_path))
      assert not file.is_file() or secret.encode() not in file.read_bytes(), (secret, file)
  for table in ("events.parquet", "participants.parquet"):  # compressed, so the search above would miss it
    content = repr(pq.read_table(next((tmp_path / "data").rglob(table))).to_pylist())
    assert "anna" not in content
    assert "2024-03" not in content
  values = dataset_values(tmp_path / "data")
  assert len(values) == len(expected)
  anonymity = Anonymity.load(tmp_path / "key", 52)
  for (who, date), day_values in expected.items():
    pseudonym, moved = anonymity.name(f"Ännchen-{who}"), anonymity.date(f"Ännchen-{who}", date)
    np.testing.assert_array_equal(values[pseudonym, moved], day_values)
    weeks, days = divmod((datetime.date.fromisoformat(date) - datetime.date.fromisoformat(moved)).days, 7)
    assert days == 0
    assert 1 <= weeks <= 52
  dataset = Dataset.open(tmp_path / "data", "mine")
  assert dataset.events().to_pylist()[0]["date"] == anonymity.date("Ännchen-anna1", "2024-03-04")
  people = dataset.participants().to_pydict()
  ages = dict(zip(people["participant"], people["age"], strict=True))
  assert ages[anonymity.name("Ännchen-anna1")] == 77
  assert "first: row" in (dataset.path / "README.md").read_text()


def test_names_and_dates_depend_on_the_key_and_the_shift():
  key_k, key_l, unshifted = Anonymity(b"k" * 32), Anonymity(b"l" * 32), Anonymity(b"k" * 32, 0)
  assert key_k.name("anna") == unshifted.name("anna") != key_l.name("anna")
  assert key_k.name("anna") != key_k.name("bob")
  assert unshifted.date("anna", "2024-02-29") == "2024-02-29"
  assert len({key_k.date(f"p{n}", "2024-02-29") for n in range(200)}) > 40
