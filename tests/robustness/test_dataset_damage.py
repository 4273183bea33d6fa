"""Damage to the files of a dataset is refused with one line that names the file, or is without effect."""

from __future__ import annotations

import collections
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import dataset_damage
from data_pipelines.build import build, npz_request, simulate_request
from data_pipelines.dataset import Dataset
from data_pipelines.errors import UserError
from data_pipelines.npz import NpzSource
from data_pipelines.simulator.simulation import Simulation
from data_pipelines.splits import HashSplit
from tests import tiny


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("damage")
  split = HashSplit((0.6, 0.2, 0.2))
  build(Simulation(participants=12, days=1, seed=0), folder, "x", split=split, request=simulate_request(12, 1, 0))
  return folder


def outcomes(data_dir, count, seed):
  found = list(dataset_damage.flips(data_dir, "x", count, seed))
  assert not [flip for flip in found if flip.outcome in (dataset_damage.UNNOTICED, dataset_damage.OBSCURE)]
  return collections.Counter(flip.outcome for flip in found)


def test_25_random_flips_are_refused_or_without_effect(data_dir):
  assert outcomes(data_dir, 25, seed=0)[dataset_damage.REFUSED] > 10


@pytest.mark.slow
def test_200_random_flips_are_refused_or_without_effect(data_dir):
  assert outcomes(data_dir, 200, seed=1)[dataset_damage.REFUSED] > 100


# Files whose content an emptied, cut or overwritten copy cannot have by chance, with and without digests.
FILES = ["dataset_info.json", "features.json", "schema.json", "splits.json", "request.json", "statistics.npz"]
FILES += ["participants.parquet", "events.parquet", "exclusive_events.json", "day_windows-pretrain"]
DAMAGE = {
  "empty": lambda raw: b"",
  "cut": lambda raw: raw[: len(raw) // 2],
  "zeros": lambda raw: bytes(len(raw)),
  "other JSON": lambda raw: b"[1, 2]",
  "not text": lambda raw: b"\xff\xfe" + raw[2:],
  "nested": lambda raw: b"[" * 100_000,
}


@pytest.mark.parametrize("checked", [True, False], ids=["digests", "no digests"])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_one_line_that_names_the_file(data_dir, tmp_path, name, checked):
  shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
  dataset = Dataset.open(tmp_path, "x")
  folder = dataset.path
  if not checked:
    tiny.without_digests(dataset)
  (file,) = folder.glob(f"{name}*")
  raw = file.read_bytes()
  for damage, change in DAMAGE.items():
    if damage == "not text" and not name.endswith("json"):
      continue  # nothing reads the first two bytes of these
    file.write_bytes(change(raw))
    with pytest.raises(UserError) as caught:
      dataset_damage.everything(tmp_path, "x")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600, damage
    assert str(file) in message or (file.name in message and str(folder) in message), (damage, message)


def test_a_damaged_dataset_can_be_built_again(tmp_path, capsys):
  dataset = tiny.dataset(tmp_path)
  (dataset.path / "schema.json").write_text("{}")
  arguments = {"request": npz_request(tmp_path / "tiny.npz"), "split": HashSplit((0.5, 0.25, 0.25))}
  with pytest.raises(UserError, match=r"schema\.json: 2 bytes, expected"):
    build(NpzSource(tmp_path / "tiny.npz"), tmp_path / "data", "tiny", **arguments)
  build(NpzSource(tmp_path / "tiny.npz"), tmp_path / "data", "tiny", overwrite=True, **arguments)
  assert "note: the existing dataset is damaged and will be replaced: " in capsys.readouterr().out
  Dataset.open(tmp_path / "data", "tiny")


def test_a_dataset_without_digests_says_so_once(tmp_path, capsys):
  dataset = tiny.dataset(tmp_path)
  tiny.without_digests(dataset)
  for _ in range(2):
    Dataset.open(tmp_path / "data", "tiny")
  note = f"note: {dataset.path}: built by an earlier version, without digests of its files; build it again with"
  assert capsys.readouterr().err.count(note) == 1


def test_shares_of_missing_values_that_were_damaged_are_read_anew(tmp_path):
  dataset = tiny.dataset(tmp_path)
  shares = dataset.missing_shares("pretrain")
  path = dataset.path / "missing_pretrain.npz"
  raw = path.read_bytes()
  for place in range(0, len(raw), 7):
    path.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
    np.testing.assert_array_equal(Dataset.open(tmp_path / "data", "tiny").missing_shares("pretrain"), shares)
  os.truncate(path, 10)
  np.testing.assert_array_equal(dataset.missing_shares("pretrain"), shares)


@pytest.fixture
def swapped(tmp_path):
  """A dataset with a valid shard of another one in each split, and the names of these files."""
  dataset = tiny.dataset(tmp_path)
  arrays = tiny.arrays()
  arrays["values"][..., 0] += 1
  np.savez(tmp_path / "other.npz", **arrays)
  split = tiny.ListSplit(*(tuple(dataset.people(split)) for split in ("pretrain", "tune", "eval")))
  other = build(NpzSource(tmp_path / "other.npz"), tmp_path / "data", "other", split=split)
  shards = list(dataset.path.glob("*array_record*"))
  for shard in shards:
    assert shard.stat().st_size == (other.path / shard.name).stat().st_size
    shutil.copy(other.path / shard.name, shard)
  return dataset, {
    path: f"error: {path}: its content is not what was built; build the dataset again" for path in shards
  }


@pytest.mark.parametrize("program", ["data_pipelines.atlas", pytest.param("aim.main", marks=pytest.mark.slow)])
def test_swapped_shards_are_refused_by_every_program(swapped, tmp_path, program):
  dataset, refusals = swapped
  flags = {
    "data_pipelines.atlas": [f"--data_dir={tmp_path / 'data'}", f"--data={dataset.name}", f"--output={tmp_path}/atlas"],
    "aim.main": [f"--config={tiny.CONFIG}", f"--workdir={tmp_path}/run", *tiny.overrides(), *tiny.on(dataset)],
  }
  command = [sys.executable, "-m", program, *flags[program]]
  done = subprocess.run(command, cwd=tiny.ROOT, env=tiny.environment(), capture_output=True, text=True)
  assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
  assert any(done.stderr.splitlines()[-1].startswith(refusal) for refusal in refusals.values()), done.stderr
