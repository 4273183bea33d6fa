"""From config values to what they set, on any clock and channel set; every mistake is one line that names its key."""

import importlib

import jax
import ml_collections
import pytest

from aim.common import config_files
from aim.common.config_files import ConfigError
from aim.model import from_config
from aim.model.attention.backends import choose_backend
from aim.model.lsm2 import Architecture, Tower
from aim.model.masking import STRATEGIES, Masking
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.schema import Channel, Schema
from experiments import default
from tests.golden import EXPERIMENTS

ONE = Schema(5, (Channel("glucose"),))
MANY = Schema(5, tuple(Channel(f"c{i}", kind="binary" if i % 5 == 0 else "continuous") for i in range(34)))


def config(**changes) -> ml_collections.ConfigDict:
  made = default.get_config()
  made.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
  return made


def test_the_default_is_lsm2():
  """On any machine's attention backend."""
  assert from_config.architecture(config(), LSM2_SCHEMA) == Architecture(
    channels=26,
    length=144,
    patch=10,
    encoder=Tower(384, 1536, 6, 12),
    decoder=Tower(256, 1024, 4, 4),
    patch_channels=1,
    projection=None,
    observed_flags=True,
    interpolation_skip=False,
    qk_init=0.0,
    binary=(False,) * 26,
    decoder_tokens="all",
    attention=choose_backend("auto", (64, 64), "float32"),
    dtype="float32",
    remat=True,
  )
  assert from_config.masking(config(), LSM2_SCHEMA) == Masking(
    weights=(1 / 3, 1 / 3, 1 / 3, 0.0),
    random_ratio=0.8,
    random_unit=0,
    temporal_ratio=0.5,
    temporal_block=1,
    sensor_ratio=0.5,
    gap_steps=(10, 240),
    gap_count=6,
    min_observed_share=0.0,
  )


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("schema", [LSM2_SCHEMA, ONE, MANY], ids=["lsm2", "one", "many"])
def test_every_experiment_fits_every_schema(name, schema):
  made = importlib.import_module(f"experiments.{name}").get_config()
  a, masking = from_config.architecture(made, schema), from_config.masking(made, schema)
  assert a.channels == len(schema.channels) and a.length * a.patch == schema.steps
  assert a.patch * schema.minutes_per_step == made.model.patch_minutes
  assert a.binary == tuple(schema.binary)
  assert 0 <= masking.dropped_count(a.channel_groups, a.length) < a.tokens
  assert made.batch_size % made.optimizer.accumulate == 0
  assert set(dict(config_files.leaves(made))) == set(dict(config_files.leaves(config()))), "keys of its own"


def test_minutes_become_steps_of_the_data():
  made = config(
    model__patch_minutes=60,
    masking__random__unit_minutes=15,
    masking__temporal__block_minutes=180,
    masking__gaps__shortest_minutes=10,
    masking__gaps__longest_minutes=120,
  )
  masking = from_config.masking(made, ONE)
  assert (masking.random_unit, masking.temporal_block, masking.gap_steps) == (3, 3, (2, 24))
  assert from_config.masking(config(masking__random__unit_minutes=10), LSM2_SCHEMA).random_unit == 0, "the patch itself"
  assert from_config.masking(config(masking__temporal__block_minutes=0), ONE).temporal_block == 1


def test_weights_are_in_the_order_of_the_strategies():
  changes = {f"masking__{name}__weight": float(i) for i, name in enumerate(STRATEGIES)}
  assert from_config.masking(config(**changes), ONE).weights == (0, 1, 2, 3)


def test_compute_type():
  assert from_config.architecture(config(), ONE).dtype == "float32", "auto on a CPU"
  assert from_config.architecture(config(model__dtype="bfloat16"), ONE).dtype == "bfloat16"


def test_compute_type_of_an_accelerator(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
  assert from_config.architecture(config(), ONE).dtype == "bfloat16"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"model__patch_minutes": 7},
      "config.model.patch_minutes is 7, expected a multiple of the data's 5 minutes per step",
    ),
    ({"model__patch_minutes": 0}, "config.model.patch_minutes is 0, expected a multiple"),
    ({"model__patch_minutes": 35}, "config.model.patch_minutes is 35: a day is not a whole number of such patches"),
    ({"model__encoder__width": 100}, "config.model.encoder.width is 100, expected a multiple of 4 and of its 6 heads"),
    ({"model__decoder__width": 6}, "config.model.decoder.width is 6, expected a multiple of 4 and of its 4 heads"),
    ({"model__encoder__heads": 0}, "config.model.encoder.width is 384, expected a multiple of 4 and of its 0 heads"),
    ({"model__dtype": "float16"}, "config.model.dtype is 'float16', expected 'auto', 'float32' or 'bfloat16'"),
    ({"masking__random__ratio": 1.0}, "config.masking.random.ratio is 1.0, expected a share between 0 and 1"),
    ({"masking__temporal__ratio": 0.0}, "config.masking.temporal.ratio is 0.0, expected a share"),
    ({"masking__sensor__ratio": -0.5}, "config.masking.sensor.ratio is -0.5, expected a share"),
    ({"masking__min_observed_share": 1.5}, "config.masking.min_observed_share is 1.5, expected 0 to 1"),
    ({"masking__random__unit_minutes": 7}, "config.masking.random.unit_minutes is 7, expected a multiple"),
    (
      {"model__patch_minutes": 60, "masking__random__unit_minutes": 25},
      "config.masking.random.unit_minutes is 25: does not divide the patch",
    ),
  ],
)
def test_a_bad_value_is_one_line(changes, message):
  with pytest.raises(ConfigError) as error:
    from_config.architecture(config(**changes), ONE)
    from_config.masking(config(**changes), ONE)
  assert message in str(error.value) and "\n" not in str(error.value)


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


def test_known_keys_pass():
  config_files.check_keys(config(), [key for key, _ in config_files.leaves(config())])


def test_difference_lists_every_changed_value():
  ours = config_files.to_dict(config())
  theirs = config_files.to_dict(config(seed=3, model__encoder__width=96))
  assert config_files.difference(ours, ours) == []
  assert config_files.difference(ours, theirs) == [("model.encoder.width", 384, 96), ("seed", 0, 3)]
  del theirs["log"]["wandb"]
  assert ("log.wandb", "", None) in config_files.difference(ours, theirs)


def test_a_config_survives_json():
  made = config()
  again = ml_collections.ConfigDict(config_files.to_dict(made))
  assert from_config.architecture(again, MANY) == from_config.architecture(made, MANY)
  assert from_config.masking(again, MANY) == from_config.masking(made, MANY)


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
  assert capsys.readouterr().out.splitlines() == [
    f"runs/old: config key {key} is not known to this version and has no effect"
    for key in ("colour", "mesh.expert.axis", "model.rotary")
  ]


def test_groups_without_defaults_stay_as_they_are(capsys):
  rooms = [config().model]
  older = ml_collections.ConfigDict({"patch_minutes": 60, "probe": {"pool": "mean", "odd": 1}})
  complete = config_files.with_defaults(older, rooms, "runs/old")
  assert complete.patch_minutes == 60 and complete.probe == older.probe
  assert complete.encoder == config().model.encoder
  assert capsys.readouterr().out == ""


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
