"""OpenMHC's releases: the same function as its published equations, the same arrays back, and no pickle is run."""

import json
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy

import aim
from aim.common.config_files import ConfigError
from aim.inference.pretrained import Pretrained
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.trained import openmhc, source
from data_pipelines.build import build, npz_request
from data_pipelines.npz import NpzSource
from tests import openmhc_release, tiny

WEIGHTS = openmhc_release.weights()


@pytest.fixture(scope="module")
def release(tmp_path_factory):
  return openmhc_release.write(tmp_path_factory.mktemp("openmhc") / "daily", WEIGHTS)


def on_one_device(folder):
  return Pretrained(source.read(folder), devices=jax.local_devices()[:1])


@pytest.fixture(scope="module")
def model(release):
  return on_one_device(release)


def test_it_embeds_by_the_published_equations(model):
  days = openmhc_release.days(1)
  expected = openmhc_release.Equations(WEIGHTS).embed(days[0])
  np.testing.assert_allclose(model.embed(days)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_it_reconstructs_by_the_published_equations(model):
  days, equations = openmhc_release.days(2), openmhc_release.Equations(WEIGHTS)
  expected = np.stack([equations.reconstruct(day) for day in days])
  np.testing.assert_allclose(model.reconstruct(days), expected, rtol=0, atol=1e-5)
  filled, missing = model.impute(days), np.isnan(days)
  missing[:, :, openmhc_release.HEART_RATE] |= days[:, :, openmhc_release.HEART_RATE] == 0
  mean, std = (np.array(openmhc_release.STATISTICS[key]) for key in ("means", "stds"))
  physical = expected * std + mean
  physical[:, :, 7:] = expected[:, :, 7:] >= 0.5
  np.testing.assert_allclose(filled[missing], physical[missing], rtol=0, atol=1e-3)
  np.testing.assert_array_equal(filled[~missing], days[~missing])


@pytest.mark.parametrize("lightning", [False, True], ids=["safetensors", "lightning"])
def test_a_release_comes_back_bit_for_bit(tmp_path, lightning):
  folder = openmhc_release.write(tmp_path / "theirs", WEIGHTS, lightning)
  read = aim.load(folder)
  assert read.trained_steps == (7 if lightning else 0)
  read.save(tmp_path / "ours", format="openmhc")
  arrays = safetensors.numpy.load_file(tmp_path / "ours" / "model.safetensors")
  prefix = "model." if lightning else ""
  assert arrays.keys() == {prefix + name for name in WEIGHTS}
  for name, array in WEIGHTS.items():
    assert arrays[prefix + name].shape == array.shape and arrays[prefix + name].tobytes() == array.tobytes(), name
  assert json.loads((tmp_path / "ours" / "normalization_stats.json").read_text()) == openmhc_release.STATISTICS
  manifest = json.loads((tmp_path / "ours" / "openmhc_manifest.json").read_text())
  assert manifest["arch"] == openmhc_release.ARCH and manifest["provenance"] == {"training_run": "test"}


def test_our_model_comes_back_bit_for_bit(model, tmp_path):
  model.save(tmp_path / "ours")
  ours = on_one_device(tmp_path / "ours")
  ours.save(tmp_path / "theirs", format="openmhc")
  again = on_one_device(tmp_path / "theirs")
  days = openmhc_release.days(1)
  assert ours.embed(days).tobytes() == again.embed(days).tobytes() == model.embed(days).tobytes()
  for name, array in ours.params.items():
    assert np.asarray(array).tobytes() == np.asarray(again.params[name]).tobytes(), name


def test_units_are_those_that_the_statistics_are_in(tmp_path, monkeypatch):
  def read(name, heart, energy):
    means = [*openmhc_release.STATISTICS["means"]]
    means[5:7] = heart, energy
    monkeypatch.setattr(openmhc_release, "STATISTICS", openmhc_release.STATISTICS | {"means": means})
    return source.read(openmhc_release.write(tmp_path / name, WEIGHTS))

  units = lambda restored: [channel.unit for channel in restored.schema.channels[5:7]]
  assert units(read("theirs", 1.3, 350.0)) == ["count/s", "cal"]
  ours = read("ours", 75.0, 1.5)
  assert units(ours) == ["bpm", "kcal"]
  del ours.metadata["openmhc"]  # as of a model that was trained on days of ours
  openmhc.write(ours, tmp_path / "written")
  statistics = json.loads((tmp_path / "written" / "normalization_stats.json").read_text())
  assert statistics["means"][5:7] == [75 / 60, 1500] and statistics["stds"][5:7] == [17 / 60, 2500]
  assert statistics["means"][:5] == np.float32(openmhc_release.STATISTICS["means"][:5]).tolist()
  assert units(source.read(tmp_path / "written")) == ["count/s", "cal"]


def test_a_model_of_another_layout_is_no_release(tmp_path):
  with pytest.raises(ConfigError, match=r"export to .*: config.model.patch_minutes is 60, expected 10 by"):
    aim.load("lsm2-watch-xs").save(tmp_path / "theirs", format="openmhc")
  assert not list(tmp_path.iterdir())


def test_the_schema_is_known_without_the_arrays(release):
  assert source.stored_schema(release).names == openmhc.CHANNELS and len(openmhc.CHANNELS) == 19


class _Malicious:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_is_refused_by_name_and_not_run(tmp_path):
  folder = openmhc_release.write(tmp_path / "theirs", WEIGHTS, lightning=True)
  with zipfile.ZipFile(folder / "model.ckpt", "w") as archive:
    archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": {}, "callbacks": _Malicious(tmp_path / "run")}))
  with pytest.raises(CheckpointError, match=r"theirs: model.ckpt: refused: its pickle names posix.mkdir, expected"):
    aim.load(folder)
  assert not (tmp_path / "run").exists()


def _arrays(folder, **changes):
  """Changes arrays; None removes one."""
  arrays = {name: array for name, array in (WEIGHTS | changes).items() if array is not None}
  safetensors.numpy.save_file(arrays, folder / "model.safetensors")


def _json(folder, name, **changes):
  content = json.loads((folder / name).read_text())
  (folder / name).write_text(json.dumps(content | changes))


QKV = "encoder.blocks.1.attn.qkv.weight"
MANIFEST, STATISTICS = "openmhc_manifest.json", "normalization_stats.json"
DAMAGE = {
  "missing array": (lambda folder: _arrays(folder, **{QKV: None}), f"array '{QKV}' is missing"),
  "wrong shape": (
    lambda folder: _arrays(folder, **{QKV: WEIGHTS[QKV].T.copy()}),
    rf"array '{QKV}' is \(16, 48\), expected \(48, 16\) by its arch",
  ),
  "unknown array": (
    lambda folder: _arrays(folder, extra=np.zeros(3, np.float32)),
    "array 'extra' is no part of this model",
  ),
  "other dtype": (
    lambda folder: _arrays(folder, **{QKV: WEIGHTS[QKV].astype(np.float16)}),
    f"array '{QKV}' is float16, expected float32",
  ),
  "no arrays": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: no such file"),
  "cut arrays": (
    lambda folder: os.truncate(folder / "model.safetensors", 4000),
    "model.safetensors: cannot be read: .*",
  ),
  "no JSON": (lambda folder: (folder / MANIFEST).write_text("{"), f"{MANIFEST}: .*"),
  "another kind": (
    lambda folder: _json(folder, MANIFEST, kind="brits"),
    f"{MANIFEST}: kind is 'brits', expected 'lsm2'",
  ),
  "weekly": (
    lambda folder: _json(folder, MANIFEST, arch=openmhc_release.ARCH | {"seq_length": 10080}),
    f"{MANIFEST}: arch: seq_length is 10080, expected 1440, the daily model's",
  ),
  "no heads": (
    lambda folder: _json(folder, MANIFEST, arch={k: v for k, v in openmhc_release.ARCH.items() if k != "num_heads"}),
    f"{MANIFEST}: arch has no 'num_heads'",
  ),
  "other heads": (
    lambda folder: _json(folder, MANIFEST, arch=openmhc_release.ARCH | {"num_heads": 3}),
    "config.model.encoder.width is 16, expected a multiple of 4 and of its 3 heads",
  ),
  "outside": (
    lambda folder: _json(folder, MANIFEST, checkpoint="../other/model.ckpt"),
    rf"{MANIFEST}: checkpoint is '../other/model.ckpt', expected the name of a file of this folder",
  ),
  "SD of 0": (
    lambda folder: _json(folder, STATISTICS, stds=[0.0] * 19),
    rf"{STATISTICS}: stds\[0\] \(iphone_steps\) is 0.0, expected a number above 0",
  ),
  "few means": (
    lambda folder: _json(folder, STATISTICS, means=[1.0]),
    rf"{STATISTICS}: means is \[1.0\], expected 19 numbers",
  ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_line(tmp_path, case):
  folder = openmhc_release.write(tmp_path / "theirs", WEIGHTS)
  damage, message = DAMAGE[case]
  damage(folder)
  with pytest.raises(CheckpointError, match=f"^{folder}: {message}$"):
    aim.load(folder)


def _cut(path):
  os.truncate(path, path.stat().st_size // 2)


def _without(path, entry):
  with zipfile.ZipFile(path) as archive:
    kept = {name: archive.read(name) for name in archive.namelist() if name != entry}
  with zipfile.ZipFile(path, "w") as archive:
    for name, raw in kept.items():
      archive.writestr(name, raw)


TORCH_DAMAGE = {
  "cut": (_cut, "is no whole zip archive, as torch.save writes since PyTorch 1.6: .*"),
  "no zip": (lambda path: path.write_bytes(b"\x80\x02."), "is no whole zip archive, .*"),
  "no pickle": (lambda path: _without(path, "archive/data.pkl"), "holds no data.pkl, as a file of torch.save does"),
  "no values": (
    lambda path: _without(path, "archive/data/3"),
    "array 'model.encoder.blocks.0.attn.qkv.bias': is damaged: .*",
  ),
  "compressed": (
    lambda path: openmhc_release.torch_save(path, {}, zipfile.ZIP_DEFLATED),
    "archive/byteorder is compressed, which torch.save does not do",
  ),
  "no tensors": (lambda path: openmhc_release.torch_save(path, {"state_dict": {}}), "holds no state_dict of tensors"),
}


@pytest.mark.parametrize("case", TORCH_DAMAGE)
def test_damage_to_a_lightning_checkpoint_is_one_line(tmp_path, case):
  folder = openmhc_release.write(tmp_path / "theirs", WEIGHTS, lightning=True)
  damage, message = TORCH_DAMAGE[case]
  damage(folder / "model.ckpt")
  with pytest.raises(CheckpointError, match=f"^{folder}: model.ckpt: {message}$"):
    aim.load(folder)


@pytest.mark.slow
def test_what_openmhc_daily_trains_is_a_release(tmp_path):
  """On days of an npz file, which say nothing of channels but their names."""
  days = openmhc_release.days(8)
  days[:, 0, 7:], days[:, 1, 7:] = 0, 1
  about = {"participant": np.array([f"p{i}" for i in range(8)]), "day": np.zeros(8, int), "date": np.array([""] * 8)}
  path = tmp_path / "days.npz"
  np.savez(path, values=days, channels=np.array(openmhc.CHANNELS), minutes_per_step=np.int64(1), **about)
  dataset = build(NpzSource(path), tmp_path / "data", "daily", request=npz_request(path))
  small = {"model.patch_minutes": 10, "model.encoder.heads": 2, "masking.drop_ratio": 0.5, "batch_size": 2}
  flags = [f"--config.{key}={value}" for key, value in (tiny.RUN | small | {"total_steps": 1}).items()]
  ended = tiny.run("--config=openmhc_daily", f"--workdir={tmp_path / 'run'}", *tiny.on(dataset), *flags)
  assert ended.code == 0, ended.err
  ended = tiny.run(
    "--mode=export", "--format=openmhc", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'theirs'}"
  )
  assert ended.code == 0, ended.err
  ours, theirs = on_one_device(tmp_path / "run"), on_one_device(tmp_path / "theirs")
  np.testing.assert_allclose(ours.embed(days[:1]), theirs.embed(days[:1]), rtol=0, atol=1e-6)
  manifest = json.loads((tmp_path / "theirs" / "openmhc_manifest.json").read_text())
  assert manifest["arch"]["embed_dim"] == 16 and manifest["provenance"]["trained_steps"] == 1
