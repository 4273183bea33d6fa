"""Digests of a dataset's files."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from benchmarks import damage
from data_pipelines.build import build
from data_pipelines.dataset import Dataset, dataset_path
from data_pipelines.digests import FILE, Digests, FileDigest
from data_pipelines.errors import CorruptError, DatasetError
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
  tiny.without_digests(dataset)
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
  path.write_text(json.dumps(raw | {"format": 3}))
  with pytest.raises(DatasetError, match=f"{path}: format 3, expected at most 2"):
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


def test_digests_that_were_deleted_are_missed(dataset):
  (dataset.path / FILE).unlink()
  with pytest.raises(
    DatasetError, match=f"{dataset.path / FILE}: missing, although the dataset was built with it; build"
  ):
    Dataset.open(*place(dataset))


def with_a_shard_of_another(dataset, folder):
  """Puts a valid shard of the same size and number of days, but with other values, in the place of one; its path."""
  values = tiny.arrays()["values"]
  values[..., 0] += 1
  other = rebuilt(folder, values=values)
  (shard,) = dataset.path.glob("*pretrain*array_record*")
  (foreign,) = other.path.glob("*pretrain*array_record*")
  assert foreign.stat().st_size == shard.stat().st_size and foreign.read_bytes() != shard.read_bytes()
  shutil.copy(foreign, shard)
  return shard


def test_a_shard_of_another_dataset_is_refused(dataset, tmp_path):
  shard = with_a_shard_of_another(dataset, tmp_path)
  with pytest.raises(DatasetError, match=f"{shard}: its content is not what was built; build the dataset again"):
    Dataset.open(*place(dataset)).days("pretrain")


def test_of_a_shard_with_a_damaged_record_all_other_days_are_read(dataset):
  (shard,) = dataset.path.glob("*pretrain*array_record*")
  whole = shard.read_bytes()
  bytes_used = np.flatnonzero(np.frombuffer(whole, np.uint8))  # the zeros are padding; the index is in the last 64 KiB
  record, index = bytes_used[len(bytes_used) // 2], bytes_used[bytes_used >= len(whole) - 2**16][30]
  damage.flip_bit(shard, int(record), 0)
  days, unreadable = Dataset.open(*place(dataset)).days("pretrain"), 0
  for day in range(len(days)):
    try:
      assert days[day]["day"] == day % 2
    except CorruptError as error:
      assert str(error).startswith(f"{shard}: record {day} of {len(days)} cannot be read")
      unreadable += 1
  assert unreadable == 1
  damage.flip_bit(shard, int(index), 0)
  with pytest.raises(DatasetError, match=f"{shard}: its content is not what was built; build"):
    Dataset.open(*place(dataset)).days("pretrain")


def test_of_a_dataset_of_format_1_sizes_of_shards_are_compared(dataset, tmp_path):
  path = dataset.path / FILE
  digests = Digests.load(dataset.path)
  files = {name: dataclasses.replace(file, ends="") for name, file in digests.files.items()}
  Digests(dataset.path, files).save()
  path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
  assert Digests.load(dataset.path).content == digests.content
  shard = with_a_shard_of_another(dataset, tmp_path)
  assert Dataset.open(*place(dataset)).days("pretrain")
  shard.write_bytes(shard.read_bytes()[:-65536])
  with pytest.raises(DatasetError, match=f"{shard}: .* bytes, expected"):
    Dataset.open(*place(dataset)).days("pretrain")


def test_ends_are_the_first_and_the_last_64_kib(tmp_path):
  path = tmp_path / "day_windows-eval.array_record-00000-of-00001"
  content = bytearray(3 * 2**16)
  path.write_bytes(content)
  whole = FileDigest.of(path)
  for place, differs in ((0, True), (2**16 - 1, True), (2**16, False), (2**17 - 1, False), (2**17, True), (-1, True)):
    changed = content.copy()
    changed[place] = 1
    path.write_bytes(changed)
    assert (FileDigest.of(path).ends != whole.ends) == differs, place
