"""Exported folders: the same function to the bit, read by anyone, whole or not at all, and no damage unnoticed."""

import dataclasses
import json
import os
import pathlib
import random
import resource
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import aim
from aim import weights
from aim.common import config_files
from aim.common.config_files import ConfigError
from aim.inference.pretrained import Pretrained
from aim.model import lsm2
from aim.training import checkpoint
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.trained import exported, source
from benchmarks import damage
from data_pipelines.channels import vocabulary
from data_pipelines.remote.objects import RemoteFolder
from data_pipelines.schema import Channel, Schema
from tests import killed_writers, tiny

SCHEMA = Schema(60, (Channel("pulse", "bpm"), Channel("steps", "count"), Channel("asleep", kind="binary")))


def restored(places: str | list[int] = "schema") -> checkpoint.Restored:
  """A restored checkpoint with random parameters."""
  config = config_files.resolve("lsm2_tiny", tiny.overrides())
  statistics = {"mean": [60.1, 59.7, 0.5], "std": [7.3, 7.1, 0.5], "min": [40.0, 41.0, 0.0], "max": [80.0, 79.0, 1.0]}
  data = {"name": "tiny", "content": "1" * 32, "pretrain": "2" * 32, "people": "3" * 32}
  metadata = {"config": config_files.to_dict(config), "schema": SCHEMA.to_dict(), "statistics": statistics}
  metadata["config"]["model"]["places"] = places
  read = checkpoint.without_params(metadata | {"format": 2, "step": 6, "training_data": data}, 6, "tests")
  shapes, rng = lsm2.abstract(read.architecture)[1], np.random.default_rng(0)
  params = {name: jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype) for name, leaf in sorted(shapes.items())}
  return dataclasses.replace(read, params=params)


@pytest.fixture(scope="module")
def model():
  """A model as read from a checkpoint, with random parameters."""
  return Pretrained(restored())


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
  target = tmp_path_factory.mktemp("saved") / "model"
  model.save(target)
  return target


@pytest.fixture
def copy(folder, tmp_path):
  return shutil.copytree(folder, tmp_path / "copy")


def test_outputs_are_equal_to_the_bit(model, folder):
  days = tiny.arrays()["values"]
  read = aim.load(folder)
  assert (read.schema, read.trained_steps, read.config) == (model.schema, model.trained_steps, model.config)
  assert read.training_data == model.training_data is not None
  for name, array in model.params.items():
    assert np.asarray(array).tobytes() == np.asarray(read.params[name]).tobytes(), name
  assert model.embed(days).tobytes() == read.embed(days).tobytes()
  assert model.impute(days).tobytes() == read.impute(days).tobytes()


def test_an_export_of_an_export_is_the_same(folder, tmp_path):
  aim.load(folder).save(tmp_path / "again")
  assert len({(folder / name).stat().st_mode for name in exported.FILES}) == 1, "whoever reads one may read all"
  for name in exported.FILES:
    assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_full_disk_leaves_one_line_and_nothing_else(model, tmp_path):
  """A limit on the size of files fails a write as a full disk does; safetensors raises no OSError then."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
  try:
    with pytest.raises(ConfigError) as error:
      model.save(tmp_path / "model")
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  expected = f"export to {tmp_path / 'model'}: model.safetensors cannot be written: File too large (os error 27)"
  assert str(error.value) == expected
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in exported.FILES if name != "README.md"])
def test_a_pipe_in_the_place_of_a_file(copy, name):
  (copy / name).unlink()
  os.mkfifo(copy / name)
  with pytest.raises(CheckpointError, match=f"^{copy}: {name}: is a pipe, expected a file; restore"):
    aim.load(copy)


def test_folders_of_the_machine_that_trained_are_left_out(tmp_path):
  config = config_files.to_dict(restored().config)
  config["data"] |= {"dir": "/elsewhere/jo/secret/data", "vocabulary": "/elsewhere/jo/secret/own.yaml"}
  config["init"]["checkpoint"] = "/elsewhere/jo/secret/runs/first/"
  config["evaluate"] = {"export": "/elsewhere/jo/secret/days.h5", "external": ""}
  entry = {"checkpoint": "gs://secret/first", "step": 3, "digest": "4" * 32}
  history = [entry, entry | {"checkpoint": "hf://owner/name@v1"}]
  read = restored()
  Pretrained(dataclasses.replace(read, metadata=read.metadata | {"config": config, "history": history})).save(
    tmp_path / "model"
  )
  assert not any(b"secret" in path.read_bytes() for path in (tmp_path / "model").iterdir())
  written = json.loads((tmp_path / "model" / "config.json").read_text())
  assert written["config"]["data"]["dir"] == "data"
  assert (written["config"]["data"]["vocabulary"], written["config"]["init"]["checkpoint"]) == ("own.yaml", "first")
  assert [entry["checkpoint"] for entry in written["history"]] == ["first", "hf://owner/name@v1"]


def test_newer_config_keys_are_not_told_of_an_exported_folder(model, tmp_path, capsys):
  read = restored()
  config = config_files.to_dict(read.config)
  del config["model"]["qk_init"], config["init"]
  older = dataclasses.replace(read, metadata=read.metadata | {"config": config}, params=model.params)
  exported.write(older, tmp_path / "model", "")
  assert aim.load(tmp_path / "model").config.model.qk_init == 0.0
  assert capsys.readouterr().out == ""


def test_a_bare_reader_sees_names_and_arrays(model, folder):
  arrays = safetensors.numpy.load_file(folder / "model.safetensors")
  assert arrays.keys() == model.params.keys()
  for name, array in arrays.items():
    assert array.dtype == np.float32 and np.array_equal(array, np.asarray(model.params[name])), name


def test_the_json_files(model, folder):
  config, schema, statistics = (
    json.loads((folder / f"{name}.json").read_text()) for name in ("config", "schema", "statistics")
  )
  assert (config["format"], config["trained_steps"], config["dtype"]) == (1, 6, "float32")
  assert config["config"]["optimizer"]["ema"] == 0.9
  assert [channel["name"] for channel in schema["channels"]] == ["pulse", "steps", "asleep"]
  assert statistics["pulse"].keys() == {"mean", "std", "min", "max"}
  np.testing.assert_allclose(statistics["pulse"]["mean"], model.scale.mean[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_half_the_bytes(model, folder, tmp_path, dtype):
  model.save(tmp_path / "half", dtype)
  sizes = [(path / "model.safetensors").stat().st_size for path in (tmp_path / "half", folder)]
  header = 100 * len(model.params)
  assert sizes[0] < sizes[1] / 2 + header
  half = aim.load(tmp_path / "half")
  for name, array in model.params.items():
    assert half.params[name].dtype == array.dtype
    assert np.array_equal(half.params[name], array.astype(dtype).astype(array.dtype)), name


def test_values_beyond_float16_are_refused(folder, tmp_path):
  large = aim.load(folder)
  name = "bridge/kernel"
  large.params[name] = large.params[name].at[0, 0].set(1e5)
  with pytest.raises(CheckpointError, match=f"array '{name}' has values beyond float16; store it as bfloat16"):
    large.save(tmp_path / "half", "float16")
  assert not list(tmp_path.iterdir())
  with pytest.raises(ConfigError, match="dtype is 'int8', expected one of float32, float16, bfloat16"):
    large.save(tmp_path / "half", "int8")


@pytest.mark.parametrize("name", [name for name in exported.FILES if name != "README.md"])
def test_flipped_bits_are_refused_with_the_name(copy, name):
  chance, path = random.Random(name), copy / name
  whole = path.read_bytes()
  for _ in range(20):
    damage.flip_bit(path, chance.randrange(len(whole)), chance.randrange(8))
    with pytest.raises(CheckpointError) as refused:
      source.read(copy)
    assert str(refused.value).startswith(f"{copy}: {name} is damaged: ") and "\n" not in str(refused.value)
    path.write_bytes(whole)
  source.read(copy)


def test_the_damaged_array_is_named(copy):
  path = copy / "model.safetensors"
  raw = path.read_bytes()
  header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
  start = 8 + int.from_bytes(raw[:8], "little") + header["bridge/kernel"]["data_offsets"][0]
  damage.flip_bit(path, start, 3)
  with pytest.raises(
    CheckpointError, match=r"model\.safetensors is damaged: array 'bridge/kernel' is not what was saved"
  ):
    source.read(copy)


@pytest.mark.parametrize("name", [name for name in exported.FILES if name != "README.md"])
def test_a_missing_or_empty_file(copy, name):
  (copy / name).write_bytes(b"")
  with pytest.raises(CheckpointError, match=f"^{copy}: {name} is damaged"):
    source.read(copy)
  (copy / name).unlink()
  with pytest.raises(CheckpointError, match=f"^{copy}: {name}: no such file; restore"):
    source.read(copy)


def test_people_may_change_the_card(copy):
  (copy / "README.md").write_text("# Mine\n")
  source.read(copy)


def test_of_a_later_format(copy, monkeypatch):
  monkeypatch.setattr(exported, "FORMAT", 0)
  with pytest.raises(CheckpointError, match="has format 1, expected at most 0: a later version wrote it"):
    source.read(copy)


def test_a_folder_is_never_replaced_unasked(model, copy, tmp_path):
  before = (copy / "config.json").read_bytes()
  with pytest.raises(ConfigError, match="the folder exists; --overwrite"):
    model.save(copy)
  model.save(copy, overwrite=True)
  assert (copy / "config.json").read_bytes() == before
  (copy / "letter.txt").write_text("mine")
  with pytest.raises(ConfigError, match=r"holds 'letter\.txt', which is of no export"):
    model.save(copy, overwrite=True)
  assert (copy / "letter.txt").exists()
  with pytest.raises(ConfigError, match="is a file"):
    model.save(copy / "letter.txt", overwrite=True)
  assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_whole_or_not_at_all(model, copy, tmp_path, monkeypatch):
  before = {path.name: path.read_bytes() for path in copy.iterdir()}

  def full(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(exported, "checksums", full)
  for target in (copy, tmp_path / "new"):
    with pytest.raises(ConfigError, match=f"export to {target}: cannot be written: No space left on device"):
      model.save(target, overwrite=True)
  assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
  assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_shipped_weights_by_name(copy, tmp_path, monkeypatch):
  monkeypatch.setattr(weights, "FOLDER", tmp_path)
  assert weights.names() == ("copy",)
  monkeypatch.chdir(tmp_path.parent)
  assert source.read("copy").step == 6
  with pytest.raises(CheckpointError, match=r"no such folder; expected .* or the name of shipped weights \(copy\)"):
    source.read("lsm2-nonsense")
  with pytest.raises(CheckpointError, match="no such folder"):  # a name is no path
    source.read("../copy")


def test_a_local_folder_wins_over_a_shipped_name(copy, tmp_path, monkeypatch):
  monkeypatch.setattr(weights, "FOLDER", tmp_path)
  mine = tmp_path / "elsewhere"
  (mine / "copy").mkdir(parents=True)
  monkeypatch.chdir(mine)
  with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
    source.read("copy")


def test_arrays_of_another_config(copy):
  """Every checksum is right, but the parts are of two models."""
  other = aim.load(copy)
  del other.params["bridge/kernel"]
  other.save(copy.parent / "other")
  with pytest.raises(CheckpointError, match=r"array 'bridge/kernel' is missing, expected .* by config"):
    source.read(copy.parent / "other")


def test_of_a_bucket(folder, tmp_path, monkeypatch):
  """memory:// stands for the object store."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  remote = RemoteFolder(f"memory://{tmp_path.name}/model")
  for path in folder.iterdir():
    remote.send(path, path.name)
  assert source.read(remote.url).step == 6
  (tmp_path / "damaged").write_text("{}")
  remote.send(tmp_path / "damaged", "schema.json")
  with pytest.raises(CheckpointError, match=rf"^{remote.url}: schema\.json is damaged"):
    source.read(remote.url)


def test_the_version_of_the_vocabulary(tmp_path):
  """It is stated where the model's places are those of the vocabulary, and only there."""
  known = vocabulary.load()
  assert exported.vocabulary_version(restored()) is None
  entries = [known.find(name) for name in SCHEMA.names]
  places = [2000 + i if entry is None else entry.place for i, entry in enumerate(entries)]
  assert exported.vocabulary_version(restored(places[::-1])) is None
  exported.write(restored(places), tmp_path / "model", "")
  again = source.read(tmp_path / "model")
  assert again.architecture.places == tuple(places) and exported.vocabulary_version(again) == known.version


def test_what_a_killed_export_left_is_removed_by_the_next_one(tmp_path):
  code = """
from aim.training.trained import exported
with exported.built_beside(pathlib.Path("model").absolute()) as building:
  (building / "model.safetensors").write_text("half of it")"""
  with killed_writers.two_writers(tmp_path, code) as (dead, _):
    killed_writers.kill(dead)
    for place in (tmp_path / ".model.0a1b.incomplete", tmp_path / ".model.0a1b.old", tmp_path / ".model.2c.old"):
      place.mkdir()
      (place / "config.json").write_text("of an earlier one")
    for text in ("first", "second"):
      with exported.built_beside(tmp_path / "model") as building:
        (building / "config.json").write_text(text)
    living, own = sorted(tmp_path.iterdir())
    assert living.suffix == ".incomplete" and own.name == "model"
    assert (living / "model.safetensors").exists() and not list(tmp_path.glob(".model.*.old"))
    assert (tmp_path / "model" / "config.json").read_text() == "second"


def test_an_export_that_another_process_overtakes_says_so(tmp_path, monkeypatch):
  folder, rename = tmp_path / "model", pathlib.Path.rename

  def overtaken(path, target):
    if target == folder:  # the other one is done between the two renames of this one
      folder.mkdir()
      (folder / "config.json").write_text("theirs")
    return rename(path, target)

  folder.mkdir()
  (folder / "config.json").write_text("old")
  with (
    pytest.raises(ConfigError, match=rf"^export to {folder}: another process exported there meanwhile"),
    exported.built_beside(folder) as building,
  ):
    (building / "config.json").write_text("ours")
    monkeypatch.setattr(pathlib.Path, "rename", overtaken)
  assert (folder / "config.json").read_text() == "theirs" and [*tmp_path.iterdir()] == [folder]
