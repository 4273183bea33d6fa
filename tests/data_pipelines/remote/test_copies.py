"""Copies of remote folders and files, datasets above all; memory:// stands for the object store."""

from __future__ import annotations

import fsspec
import numpy as np
import pytest

from data_pipelines.build import build, main, npz_request
from data_pipelines.dataset import Dataset, dataset_names
from data_pipelines.errors import DatasetError, UserError
from data_pipelines.npz import NpzSource
from data_pipelines.remote import copies
from data_pipelines.remote.objects import RemoteError, RemoteFolder, is_remote
from tests import tiny


@pytest.fixture
def bucket(tmp_path, monkeypatch):
  """The url of an empty bucket; copies lie below tmp_path."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  yield f"memory://{tmp_path.name}"
  fsspec.filesystem("memory").store.clear()


def build_remotely(bucket, tmp_path, **changes):
  np.savez(tmp_path / "tiny.npz", **tiny.arrays() | changes)
  path = tmp_path / "tiny.npz"
  return build(lambda: NpzSource(path), f"{bucket}/data", "tiny", request=npz_request(path), overwrite=True)


def test_paths_with_a_scheme_are_remote():
  assert is_remote("gs://bucket/run") and is_remote("s3://bucket") and is_remote("memory://x")
  assert not any(map(is_remote, ("/runs/gs:/x", "runs/demo", "C:/runs", "run://".upper(), "")))


def test_a_remote_dataset_is_that_of_a_local_build(bucket, tmp_path):
  here = tiny.dataset(tmp_path)
  request = {"request": npz_request(tmp_path / "tiny.npz")}
  there = build(
    lambda: NpzSource(tmp_path / "tiny.npz"), f"{bucket}/data", "tiny", split=split_of(here), request=request
  )
  assert there.digest == here.digest
  assert dataset_names(f"{bucket}/data") == ["tiny"]
  stored = RemoteFolder(f"{bucket}/data/day_windows/tiny/1.0.0").files()
  assert set(stored) == {path.name for path in here.path.iterdir()}
  assert not RemoteFolder(f"{bucket}/data/.building").files()


def split_of(dataset):
  return tiny.ListSplit(*(tuple(dataset.people(split)) for split in ("pretrain", "tune", "eval")))


def test_only_what_changed_is_fetched(bucket, tmp_path, capsys):
  first = build_remotely(bucket, tmp_path)
  url = f"{bucket}/data/day_windows/tiny/1.0.0"
  assert copies.fetch_folder(url) == []  # a build leaves its copy
  (first.path / "schema.json").unlink()
  (first.path / "splits.json").write_text("{}")
  capsys.readouterr()
  again = Dataset.open(f"{bucket}/data", "tiny")
  assert "copying 2 files" in capsys.readouterr().out
  assert again.digest == first.digest
  values = tiny.arrays()["values"] + 1
  changed = build_remotely(bucket, tmp_path, values=values)
  assert changed.digest != first.digest
  assert Dataset.open(f"{bucket}/data", "tiny").digest == changed.digest


def test_a_copy_follows_a_build_on_another_machine(bucket, tmp_path, monkeypatch):
  mine = build_remotely(bucket, tmp_path)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
  build_remotely(bucket, tmp_path, values=tiny.arrays()["values"] + 1)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  opened = Dataset.open(f"{bucket}/data", "tiny")
  assert opened.path == mine.path
  assert opened.statistics.mean == pytest.approx(mine.statistics.mean + 1, rel=1e-3)


def test_damage_in_the_store_is_refused(bucket, tmp_path):
  dataset = build_remotely(bucket, tmp_path)
  remote = RemoteFolder(f"{bucket}/data/day_windows/tiny/1.0.0")
  shard = next(name for name in remote.files() if ".array_record" in name)
  raw = bytearray(remote.read(shard))
  raw[len(raw) // 2] ^= 1
  remote.write(shard, bytes(raw))
  with pytest.raises(DatasetError, match=f"{dataset.path / shard}: its content is not what was built"):
    Dataset.open(f"{bucket}/data", "tiny")


def test_an_unfinished_dataset_is_none(bucket, tmp_path):
  build_remotely(bucket, tmp_path)
  RemoteFolder(f"{bucket}/data/day_windows/tiny/1.0.0").remove(["request.json"])
  with pytest.raises(DatasetError, match=r"no dataset 'tiny' in .*; it holds no datasets"):
    Dataset.open(f"{bucket}/data", "tiny")
  assert build_remotely(bucket, tmp_path).num_days("pretrain")


def test_an_interrupted_copy_goes_on(bucket, tmp_path, monkeypatch):
  remote = RemoteFolder(f"{bucket}/files")
  for number in range(20):
    remote.write(f"{number}", b"x" * number)
  fetch, count = RemoteFolder.fetch, []

  def fails_at_the_tenth(self, name, path):
    count.append(name)
    if len(count) > 10:
      raise RemoteError("the connection is gone")
    fetch(self, name, path)

  monkeypatch.setattr(RemoteFolder, "fetch", fails_at_the_tenth)
  with pytest.raises(RemoteError, match="the connection is gone"):
    copies.fetch_folder(remote.url)
  monkeypatch.setattr(RemoteFolder, "fetch", fetch)
  rest = copies.fetch_folder(remote.url)
  assert 10 <= len(rest) < 20
  assert [(copies.copy_path(remote.url) / f"{n}").read_bytes() for n in range(20)] == [b"x" * n for n in range(20)]
  assert not list(copies.copy_path(remote.url).glob("*.part*"))


def test_local_gives_files_and_folders(bucket, tmp_path):
  remote = RemoteFolder(f"{bucket}/inputs")
  remote.write("a.npz", b"1")
  remote.write("export/day/b.csv", b"2")
  assert copies.local(f"{bucket}/inputs/a.npz").read_bytes() == b"1"
  assert (copies.local(f"{bucket}/inputs/export") / "day/b.csv").read_bytes() == b"2"
  assert copies.local(tmp_path) == tmp_path
  with pytest.raises(RemoteError, match=r"/inputs/c\.npz: no such file or folder"):
    copies.local(f"{bucket}/inputs/c.npz")


def test_a_full_disk_is_noticed_before_anything_is_fetched(bucket, monkeypatch):
  RemoteFolder(f"{bucket}/files").write("a", b"12345")
  monkeypatch.setattr(copies.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 4}))
  with pytest.raises(RemoteError, match=r"its copy needs 0.0 MB, and .* has 0.0 MB free; XDG_CACHE_HOME names"):
    copies.fetch_folder(f"{bucket}/files")


@pytest.mark.parametrize("url", ["nosuch://bucket/run", "sftp://host/run"])
def test_a_scheme_without_a_backend_is_one_line(url):
  with pytest.raises(UserError, match=f"^{url}: ") as error:
    RemoteFolder(url)
  assert "\n" not in str(error.value)


def test_an_import_reads_from_a_bucket(bucket, tmp_path, capsys):
  np.savez(tmp_path / "mine.npz", **tiny.arrays())
  RemoteFolder(f"{bucket}/in").send(tmp_path / "mine.npz", "mine.npz")
  flags = ["build", "--source=npz", f"--input={bucket}/in/mine.npz", f"--data_dir={bucket}/data", "--name=mine"]
  assert main([*flags, "--folds=2", "--fold=0"]) == 0, capsys.readouterr().err
  request = Dataset.open(f"{bucket}/data", "mine").request["request"]
  assert request["blake2b"] == npz_request(tmp_path / "mine.npz")["blake2b"]
  assert main([*flags[:2], f"--input={bucket}/in/none.npz", *flags[3:], "--folds=2", "--fold=0"]) == 2
  assert f"error: {bucket}/in/none.npz: no such file or folder" in capsys.readouterr().err
