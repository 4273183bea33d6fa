"""Digests of a dataset's files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.dataset import Dataset, dataset_path
from data_pipelines.digests import FILE, Digests
from data_pipelines.errors import DatasetError
from data_pipelines.npz import NpzSource
from tests import tiny


@pytest.fixture
def dataset(tmp_path):
  return tiny.dataset(tmp_path)


def rebuilt(folder, name="tiny", **changes):
  """The days of tiny.dataset with changed arrays, as another dataset."""
  arrays = tiny.arrays() | changes
  (folder / "other").mkdir(exist_ok=True)
  np.savez(folder / "other/tiny.npz", **arrays)
  original = Dataset.open(folder / "data", "tiny")
  split = tiny.ListSplit(*(tuple(original.people(split)) for split in ("pretrain", "tune", "eval")))
  return build(NpzSource(folder / "other/tiny.npz"), folder / "other/data", name, split=split, overwrite=True)


def test_every_file_has_a_digest(dataset):
  names = {path.name for path in dataset.path.iterdir()} - {FILE}
  assert set(Digests.load(dataset.path).files) == names


def test_the_digest_of_a_dataset_is_that_of_its_content(dataset, tmp_path):
  assert rebuilt(tmp_path, name="renamed").digest == dataset.digest
  values = tiny.arrays()["values"]
  values[-1, -1, 0] += 1  # a day of the eval split: no statistic changes
  assert rebuilt(tmp_path, values=values).digest != dataset.digest
  assert rebuilt(tmp_path, labels=np.array('{"p0": {"age": 41}}')).digest != dataset.digest
  shutil.move(tmp_path / "data", tmp_path / "moved")
  assert Dataset.open(tmp_path / "moved", "tiny").digest == dataset.digest


def test_a_dataset_of_an_earlier_version_has_a_digest_too(dataset):
  (dataset.path / FILE).unlink()
  earlier = Dataset.open(*place(dataset))
  before = earlier.digest
  earlier.missing_shares("pretrain")
  assert Dataset.open(*place(dataset)).digest == before
  text = (dataset.path / "splits.json").read_text()
  (dataset.path / "splits.json").write_text(text.replace("p1", "p9"))
  assert Dataset.open(*place(dataset)).digest != before


def place(dataset):
  folder = dataset.path.parents[2]
  assert dataset_path(folder, dataset.name) == dataset.path
  return folder, dataset.name


@pytest.mark.parametrize(
  "name", ["schema.json", "splits.json", "request.json", "participants.parquet", "features.json"]
)
def test_a_small_file_that_was_edited_is_refused(dataset, name):
  path = dataset.path / name
  raw = path.read_bytes()
  path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
  with pytest.raises(DatasetError, match=f"{path}: its content is not what was built; build the dataset again or"):
    Dataset.open(*place(dataset))
  path.write_bytes(raw[:-1])
  with pytest.raises(DatasetError, match=f"{path}: {len(raw) - 1:,} bytes, expected {len(raw):,}; build"):
    Dataset.open(*place(dataset))
  if name != "request.json":  # without it there is no dataset
    path.unlink()
    with pytest.raises(DatasetError, match=f"{path}: no such file or directory; build"):
      Dataset.open(*place(dataset))


def test_digests_that_are_damaged_themselves_are_refused(dataset):
  path = dataset.path / FILE
  raw = json.loads(path.read_text())
  for damaged in (
    raw | {"files": raw["files"] | {"schema.json": {"size": 1, "blake2b": "0"}}},
    {"files": raw["files"]},
    raw | {"files": []},
    [],
  ):
    path.write_text(json.dumps(damaged))
    with pytest.raises(DatasetError, match=f"{path}: damaged, build the dataset again or restore it"):
      Dataset.open(*place(dataset))
  path.write_text(json.dumps(raw | {"format": 2}))
  with pytest.raises(DatasetError, match=f"{path}: format 2, expected at most 1"):
    Dataset.open(*place(dataset))


def test_events_and_shards_are_compared_before_they_are_read(dataset):
  events = dataset.path / "events.parquet"
  events.write_bytes(events.read_bytes().replace(b"participant", b"particopant"))
  opened = Dataset.open(*place(dataset))
  with pytest.raises(DatasetError, match=f"{events}: its content is not what was built"):
    opened.events()
  (shard,) = dataset.path.glob("*pretrain*array_record*")
  shard.write_bytes(shard.read_bytes()[:-65536])
  with pytest.raises(DatasetError, match=f"{shard}: .* bytes, expected"):
    opened.days("pretrain")
