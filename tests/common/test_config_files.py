"""Config files and their keys: wrong names, older configs, differences; every mistake is one line naming its key."""

import ml_collections
import pytest

from aim.common import config_files
from aim.common.config_files import ConfigError
from experiments import default
from tests.golden import EXPERIMENTS


def config(**changes) -> ml_collections.ConfigDict:
  made = default.get_config()
  made.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
  return made


@pytest.mark.parametrize(
  ("key", "message"),
  [
    ("batch_sise", "--config.batch_sise: no such config key; the nearest is --config.batch_size"),
    ("model.encoder.widht", "the nearest is --config.model.encoder.width"),
    ("masking.gap.count", "the nearest is --config.masking.gaps.count"),
    ("model.encoder", "--config.model.encoder: is a group of keys, such as --config.model.encoder."),
    ("masking", "--config.masking: is a group of keys, such as --config.masking."),
  ],
)
def test_a_mistyped_key_names_the_nearest(key, message):
  with pytest.raises(ConfigError) as error:
    config_files.check_keys(config(), ["seed", "model.encoder.width", key])
  assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("total_steps=4.5", "flag --config.total_steps=4.5: expected a whole number"),
    ("total_steps=", "flag --config.total_steps=: expected a whole number"),
    ("optimizer.learning_rate=x", "flag --config.optimizer.learning_rate=x: expected a number"),
    ("log.tensorboard=maybe", "flag --config.log.tensorboard=maybe: expected true or false"),
  ],
)
def test_a_value_that_is_no_number_is_told_in_plain_words(override, message):
  with pytest.raises(ConfigError) as error:
    config_files.resolve("lsm2_tiny", [f"--config.{override}"])
  assert str(error.value) == f"--config=lsm2_tiny: {message}"


def test_a_value_of_another_type_in_a_file(tmp_path):
  path = tmp_path / "mine.py"
  for value, message in (
    ("float('nan')", "nan, expected a whole number"),
    ("2.5", "2.5, expected a whole number"),
    ("'16'", "'16', expected a whole number"),
    ("np.int64(16)", "16 of type numpy.int64, expected a whole number of Python"),
  ):
    lines = "  config = lsm2_tiny.get_config()", f"  config.batch_size = {value}", "  return config"
    imports = "import numpy as np", "from experiments import lsm2_tiny"
    path.write_text("\n".join((*imports, "def get_config():", *lines, "")))
    with pytest.raises(ConfigError) as error:
      config_files.load(str(path))
    assert str(error.value) == f"--config={path}: key 'batch_size' is {message}"


def test_known_keys_pass():
  config_files.check_keys(config(), [key for key, _ in config_files.leaves(config())])


def test_difference_lists_every_changed_value():
  ours = config_files.to_dict(config())
  theirs = config_files.to_dict(config(seed=3, model__encoder__width=96))
  assert config_files.difference(ours, ours) == []
  assert config_files.difference(ours, theirs) == [("model.encoder.width", 384, 96), ("seed", 0, 3)]
  del theirs["log"]["wandb"]
  assert ("log.wandb", "", None) in config_files.difference(ours, theirs)


def test_a_config_of_an_older_version_takes_the_missing_defaults(capsys):
  older = config_files.to_dict(config(seed=3, model__encoder__width=96))
  del older["method"], older["model"]["patch_channels"], older["data"], older["views"]["projection"]
  older["model"]["rotary"] = True
  older["mesh"]["expert"] = {"axis": 1}
  older["colour"] = "red"
  complete = config_files.with_defaults(older, [config()], "runs/old")
  assert config_files.difference(config_files.to_dict(complete), config_files.to_dict(config())) == [
    ("model.encoder.width", 96, 384),
    ("seed", 3, 0),
  ]
  *unknown, missing = capsys.readouterr().out.splitlines()
  assert unknown == [
    f"runs/old: config key {key} is not known to this version and has no effect"
    for key in ("colour", "mesh.expert.axis", "model.rotary")
  ]
  assert missing.startswith(
    "runs/old: was written by a version without some config keys, which are taken as data.clip="
  )
  for setting in ("method='mae'", "model.patch_channels=1", "views.projection.width=128"):
    assert setting in missing


def test_groups_without_defaults_stay_as_they_are(capsys):
  rooms = [config().model]
  older = ml_collections.ConfigDict({"patch_minutes": 60, "probe": {"pool": "mean", "odd": 1}})
  complete = config_files.with_defaults(older, rooms, "runs/old")
  assert complete.patch_minutes == 60 and complete.probe == older.probe
  assert complete.encoder == config().model.encoder
  told = capsys.readouterr().out
  assert "encoder.width=384" in told and "probe" not in told and "no effect" not in told


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_shipped_experiment_is_found_by_name_and_by_path_from_any_folder(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert config_files.find(name) == config_files.find(f"experiments/{name}.py") == config_files.shipped()[name]
  assert config_files.shipped()[name].is_file()


def test_a_file_of_ones_own_comes_before_a_shipped_experiment(tmp_path, monkeypatch):
  (tmp_path / "experiments").mkdir()
  mine = tmp_path / "experiments" / "lsm2_tiny.py"
  mine.write_text("from experiments import default\n\ndef get_config():\n  return default.get_config()\n")
  monkeypatch.chdir(tmp_path)
  assert config_files.find("experiments/lsm2_tiny.py").resolve() == mine
  assert config_files.load("lsm2_tiny").total_steps == 500
  assert config_files.load(str(mine)).total_steps == 50_000


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("lsm2_tny", "no shipped experiment of this name; the nearest shipped experiment is --config=lsm2_tiny"),
    ("experiments/lsm2_bas.py", "no such file; the nearest shipped experiment is --config=lsm2_base"),
    ("elsewhere/lsm2_tiny.py", "no such file; the nearest shipped experiment is --config=lsm2_tiny"),
  ],
)
def test_a_wrong_name_names_the_nearest_shipped_experiment(name, message):
  with pytest.raises(ConfigError) as error:
    config_files.load(name)
  assert str(error.value) == f"--config={name}: {message}"
