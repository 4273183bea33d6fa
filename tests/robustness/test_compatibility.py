"""Checkpoints and configs of other versions: golden ones of every release, missing and unknown keys, later formats."""

import json
import shutil

import jax
import numpy as np
import pytest

import aim
import aim.inference.defaults
import aim.model.defaults
import aim.training.defaults
from aim import commands
from aim.common import config_files
from aim.runtime import sharding
from aim.training import checkpoint, checkpoint_metadata, compatibility
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.pretrain import TrainingRun
from tests import tiny
from tests.golden import checkpoints as golden

EXPORTED = sorted(golden.FOLDER.glob("*/exported.zip"))
GOLDEN = sorted({*golden.FOLDER.glob("*/*.zip")} - {*EXPORTED})
IDS = [f"{path.parent.name}-{path.stem}" for path in GOLDEN]
METADATA = "checkpoints/2/_CHECKPOINT_METADATA"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("compatibility"))


@pytest.fixture
def workdir(tmp_path):
  """The golden LSM-2 of the first release."""
  golden.unpacked(GOLDEN[IDS.index("0.1.0-lsm2")], tmp_path)
  return tmp_path


def rewrite(workdir, change, key="config"):
  """Changes the stored metadata as another version would have written them."""
  path = workdir / METADATA
  stored = json.loads(path.read_text())
  metadata = {name: value for name, value in stored["custom_metadata"].items() if name not in ("format", "digest")}
  change(metadata[key] if key else metadata)
  sums = metadata.pop("checksums")
  stored["custom_metadata"] = checkpoint_metadata.sealed(metadata, sums)
  path.write_text(json.dumps(stored))


def resumed(workdir, dataset):
  """The state that a run of the checkpoint's own config goes on from, on eight devices."""
  config = checkpoint.read(workdir).config
  config.batch_size = 8
  stored = json.loads((workdir / METADATA).read_text())["custom_metadata"]
  with jax.set_mesh(sharding.make_mesh(8, 1, 1)):
    run = TrainingRun(config, workdir, dataset)
    # Shards are written by another library's version perhaps, their days are the same.
    run.metadata |= {"training_data": stored.get("training_data") or {}}
    checkpoints = checkpoint.Checkpoints(workdir, 1, 3)
    try:
      return run.initial_state(checkpoints)
    finally:
      checkpoints.close()


@pytest.mark.parametrize("path", GOLDEN, ids=IDS)
def test_a_golden_checkpoint_is_the_model_that_it_was(path, tmp_path, dataset, capsys):
  arrays = golden.unpacked(path, tmp_path)
  model = aim.load(tmp_path)
  assert "no effect" not in capsys.readouterr().out
  np.testing.assert_allclose(model.embed(arrays["days"]), arrays["embeddings"], rtol=1e-4, atol=1e-5)
  if "imputations" in arrays:
    np.testing.assert_allclose(model.impute(arrays["days"]), arrays["imputations"], rtol=1e-4, atol=1e-3)
  state = resumed(tmp_path, dataset)
  assert int(state["step"]) == golden.STEPS


@pytest.mark.parametrize("path", EXPORTED, ids=[path.parent.name for path in EXPORTED])
def test_a_golden_export_is_the_model_that_it_was(path, tmp_path):
  arrays = golden.unpacked(path, tmp_path)
  model = aim.load(tmp_path / "exported")
  np.testing.assert_allclose(model.embed(arrays["days"]), arrays["embeddings"], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(model.impute(arrays["days"]), arrays["imputations"], rtol=1e-4, atol=1e-3)


def test_every_release_has_its_golden_checkpoints():
  releases = {path.parent.name for path in GOLDEN}
  assert releases == {path.parent.name for path in EXPORTED}
  assert {f"{release}-{model}" for release in releases for model in golden.MODELS} == set(IDS)
  with pytest.raises(FileExistsError):
    golden.add(min(releases))


@pytest.mark.parametrize("path", GOLDEN, ids=IDS)
def test_a_new_key_says_what_older_versions_did(path, tmp_path):
  """A key of today's defaults that a release did not have must be in MADE_WITH: its default may be another model."""
  golden.unpacked(path, tmp_path)
  saved = json.loads((tmp_path / METADATA).read_text())["custom_metadata"]["config"]
  known = dict(config_files.leaves(saved))
  read = (aim.model.defaults.defaults(), aim.training.defaults.defaults(), aim.inference.defaults.defaults())
  new = {key for room in read for key, _ in config_files.leaves(room)} - set(known)
  assert new <= set(compatibility.MADE_WITH)


def test_missing_keys_take_what_made_them(workdir, dataset, capsys):
  days = tiny.arrays()["values"][:2]
  expected = aim.load(workdir).embed(days)

  def remove(config):
    del config["model"]["qk_init"], config["model"]["patch_channels"], config["data"]["impute"], config["method"]
    del config["impute"]["short_holes"]

  rewrite(workdir, remove)
  capsys.readouterr()
  model = aim.load(workdir)
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith(
    f"{workdir}/checkpoints/2: was written by a version without some config keys, which are taken "
  )
  settings = ("data.impute='none'", "method='mae'", "model.patch_channels=1", "model.qk_init=0.0")
  assert all(setting in line for setting in settings)
  np.testing.assert_array_equal(model.embed(days), expected)
  assert int(resumed(workdir, dataset)["step"]) == golden.STEPS


def test_the_value_that_made_a_checkpoint_comes_before_todays_default(workdir, monkeypatch):
  rewrite(workdir, lambda config: config["model"].pop("observed_flags"))
  monkeypatch.setitem(compatibility.MADE_WITH, "model.observed_flags", False)
  assert checkpoint_metadata.completed({"model": {}}, "here").model.observed_flags is False
  with pytest.raises(CheckpointError, match=r"its arrays cannot be read|is damaged"):
    aim.load(workdir / "checkpoints" / "2")


@pytest.mark.parametrize("key", ["model.rotary", "model.encoder.experts", "views.projection.norm", "masking.least"])
def test_unknown_keys_of_the_model_are_refused(workdir, key):
  def add(config):
    *groups, name = key.split(".")
    for group in groups:
      config = config[group]
    config[name] = 1

  rewrite(workdir, add)
  with pytest.raises(CheckpointError) as refused:
    aim.load(workdir)
  assert str(refused.value) == (
    f"{workdir}/checkpoints/2: config key {key} is not known to this version, and the model's function depends on it; "
    "use the version that wrote it, or a later one"
  )


def test_other_unknown_keys_are_told(workdir, capsys):
  rewrite(workdir, lambda config: config.update(colour="red") or config["log"].update(sound=1))
  aim.load(workdir)
  printed = capsys.readouterr().out
  for key in ("colour", "log.sound"):
    assert f"{workdir}/checkpoints/2: config key {key} is not known to this version and has no effect\n" in printed


def test_a_later_format_is_refused(workdir, monkeypatch):
  monkeypatch.setattr(checkpoint_metadata, "FORMAT", 3)
  rewrite(workdir, lambda config: None)
  monkeypatch.undo()
  with pytest.raises(CheckpointError) as refused:
    aim.load(workdir)
  assert str(refused.value) == (
    f"{workdir}/checkpoints/2: has format 3, expected at most 2: a later version of this program wrote it"
  )
  with pytest.raises(CheckpointError, match="has format 3"):  # and stays where it is
    checkpoint.Checkpoints(workdir, 1, 3)
  assert (workdir / METADATA).is_file()


def test_a_checkpoint_of_the_first_format_is_read(workdir, dataset, capsys):
  path = workdir / METADATA
  stored = json.loads(path.read_text())
  expected = aim.load(workdir).params
  stored["custom_metadata"] = {key: stored["custom_metadata"][key] for key in ("config", "schema", "statistics")}
  path.write_text(json.dumps(stored))
  capsys.readouterr()
  model = aim.load(workdir)
  line = f"{workdir}/checkpoints/2: saved by a version without checksums, so damage to it may go unnoticed\n"
  assert line in capsys.readouterr().out
  jax.tree.map(np.testing.assert_array_equal, model.params, expected)
  model.check_unseen_people(dataset)
  assert int(resumed(workdir, dataset)["step"]) == golden.STEPS


def test_a_config_file_of_ones_own(dataset, tmp_path):
  """Without a key it takes the default, with an unknown key it is refused; both by name."""
  path = tmp_path / "own.py"
  text = "from experiments import lsm2_tiny\ndef get_config():\n  c = lsm2_tiny.get_config()\n  {}\n  return c\n"
  run = [f"--config={path}", f"--workdir={tmp_path}/run", *tiny.on(dataset), *tiny.overrides()]
  mistyped = {
    "c.model.remta = True": ("model.remta", "model.remat"),
    "c.optimizer.learning_rat = 1.0": ("optimizer.learning_rat", "optimizer.learning_rate"),
    "c.probes = type(c)({'pool': 'mean'})": ("probes.pool", "probe.pool"),
  }
  for line, (key, meant) in mistyped.items():
    path.write_text(text.format(f"c.unlock(); {line}"))
    ended = tiny.run(*run)
    assert (ended.code, ended.out) == (2, "")
    where = f"--config={path}: "
    assert ended.err == f"error: {where}{key}: no such config key; the nearest is {meant}\n"
  path.write_text(text.format("c.unlock(); del c.model['qk_init'], c.log['wandb']"))
  ended = tiny.run(*run)
  assert ended.code == 0, ended.err
  assert "without some config keys, which are taken as log.wandb='', model.qk_init=0.0" in ended.out
  shutil.rmtree(tmp_path / "run" / "checkpoints")


def test_reports_read_a_config_of_another_version(workdir, capsys):
  config = json.loads((workdir / METADATA).read_text())["custom_metadata"]["config"]
  del config["model"]["qk_init"]
  (workdir / "config.json").write_text(json.dumps(config | {"colour": "red"}))
  assert commands.saved_config(workdir).model.qk_init == 0.0
  printed = capsys.readouterr().out
  assert "config key colour is not known" in printed and "model.qk_init=0.0" in printed
  config["model"]["rotary"] = True
  (workdir / "config.json").write_text(json.dumps(config))
  with pytest.raises(config_files.ConfigError, match=r"config.json: config key model.rotary is not known"):
    commands.saved_config(workdir)
