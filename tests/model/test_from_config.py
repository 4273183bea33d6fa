"""From config values to what they set, on any clock and channel set; every mistake is one line that names its key."""

import dataclasses
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
from aim.runtime import devices
from data_pipelines.channels import vocabulary
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from data_pipelines.schema import Channel, Schema
from tests.common.test_config_files import config
from tests.golden import EXPERIMENTS

ONE = Schema(5, (Channel("glucose"),))
MANY = Schema(5, tuple(Channel(f"c{i}", kind="binary" if i % 5 == 0 else "continuous") for i in range(34)))


def test_the_default_is_lsm2():
  """On any machine's attention backend."""
  assert from_config.architecture(config(), LSM2_SCHEMA) == Architecture(
    channels=26,
    length=144,
    patch=10,
    places=tuple(range(26)),
    encoder=Tower(384, 1536, 6, 12),
    decoder=Tower(256, 1024, 4, 4),
    patch_channels=1,
    projection=None,
    observed_flags=True,
    interpolation_skip=False,
    skip_evidence="line",
    evidence_embedding="before",
    context_days=0,
    qk_init=0.0,
    binary=(False,) * 26,
    decoder_tokens="refined",
    attention=choose_backend("auto", (64, 64), "float32"),
    dtype="float32",
    remat=True,
    scan_layers=False,
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
    any_observed=(),
    drop_ratio=-1.0,
  )


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("schema", [LSM2_SCHEMA, ONE, MANY], ids=["lsm2", "one", "many"])
def test_every_experiment_fits_every_schema(name, schema):
  made = importlib.import_module(f"experiments.{name}").get_config()
  if made.model.places == "vocabulary":
    made.model.places = "schema"  # which has no channel's name in it
  made.masking.any_observed = ()  # the same
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


def test_the_form_of_each_platform():
  """Packed wherever attention has a kernel for packed windows."""
  with devices.target_platform("tpu"):
    architecture = from_config.architecture(config(), LSM2_SCHEMA)
    assert (architecture.attention, architecture.dtype) == ("splash", "bfloat16")
    assert from_config.form(config(), architecture) == "packed"
  for attention, form in (("native", "packed"), ("xla", "trimmed"), ("cudnn", "trimmed")):
    assert from_config.form(config(), dataclasses.replace(architecture, attention=attention)) == form


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
    ({"model__patch_minutes": 35}, "config.model.patch_minutes is 35: a day is not a whole number of such patches"),
    ({"model__encoder__width": 100}, "config.model.encoder.width is 100, expected a multiple of 4 and of its 6 heads"),
    ({"model__decoder__width": 6}, "config.model.decoder.width is 6, expected a multiple of 4 and of its 4 heads"),
    ({"masking__random__ratio": 1.0}, "config.masking.random.ratio is 1.0, expected a number above 0 and below 1"),
    ({"masking__min_observed_share": 1.5}, "config.masking.min_observed_share is 1.5, expected a number from 0 to 1"),
    ({"masking__random__unit_minutes": 7}, "config.masking.random.unit_minutes is 7, expected a multiple"),
    (
      {"model__context_days": 7},
      "config.model.context_days is 7, expected 0 with no interpolation skip; it needs config.method='mae' and "
      "config.model.interpolation_skip=True",
    ),
    ({"model__context_days": 256}, "config.model.context_days is 256, expected a whole number from 0 to 255"),
    (
      {"model__context_days": 7, "model__interpolation_skip": True, "method": "dino"},
      "config.model.context_days is 7, expected 0 with method 'dino'",
    ),
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


def with_places(places, schema=MANY, **changes):
  made = config(**changes)
  with made.ignore_type():
    made.model.places = places
  return from_config.architecture(made, schema)


def test_places_are_those_of_the_schema_or_given():
  assert from_config.architecture(config(), MANY).places == tuple(range(34))
  assert with_places([*range(34)]) == from_config.architecture(config(), MANY)
  assert with_places((*range(33), 99)).places == (*range(33), 99)
  assert from_config.architecture(config(model__patch_channels=5), MANY).places == tuple(range(7))


def test_places_of_the_vocabulary_are_the_same_among_any_channels(tmp_path):
  """By name or alias; a file of one's own adds channels, and what stands in a checkpoint is the numbers."""
  schema = lambda *names: Schema(5, tuple(Channel(name) for name in names))
  few, more = schema("heart_rate", "glucose"), schema("heart_rate", "steps", "glucose")
  made = config(model__places="vocabulary")
  places = lambda of: from_config.architecture(made, of).places
  assert places(more) == (places(few)[0], vocabulary.load().find("steps").place, places(few)[1])
  assert places(schema("glucose", "pulse")) == places(few)[::-1]
  resolved = from_config.with_places(made, places(few))
  assert (
    from_config.architecture(resolved, few) == from_config.architecture(made, few) and made.model.places == "vocabulary"
  )
  mine = schema("heart_rate", "sweat_rate")
  message = "channel 'sweat_rate' is not in the shipped one; add it to a vocabulary of your own and name the file in "
  with pytest.raises(ConfigError, match=f"config.model.places is 'vocabulary', and {message}config.data.vocabulary"):
    places(mine)
  made.data.vocabulary = str(tmp_path / "mine.yaml")
  (tmp_path / "mine.yaml").write_text("channels: [{name: sweat_rate, place: 1000}]\n")
  assert places(mine) == (places(few)[0], 1000)
  with pytest.raises(ConfigError, match=r"gives 0 to channels hr and pulse"):
    places(schema("hr", "pulse"))


@pytest.mark.parametrize(
  ("places", "changes", "message"),
  [
    ((0, 1), {}, "config.model.places has 2 places, expected one for each of 34 channels"),
    ((7, *range(33)), {}, "config.model.places gives 7 to channels c0 and c8, expected another for each"),
    (tuple(range(1, 8)), {"model__patch_channels": 5}, "config.model.patch_channels 5, expected places='schema'"),
    ("shema", {}, "config.model.places is 'shema', expected one of schema"),
    ((0, -1), {}, "config.model.places is (0, -1), expected one of schema"),
  ],
)
def test_places_that_do_not_fit_are_one_line(places, changes, message):
  with pytest.raises(ConfigError) as error:
    with_places(places, **changes)
  assert message in str(error.value) and "\n" not in str(error.value)


def test_a_config_survives_json():
  made = config()
  again = ml_collections.ConfigDict(config_files.to_dict(made))
  assert from_config.architecture(again, MANY) == from_config.architecture(made, MANY)
  assert from_config.masking(again, MANY) == from_config.masking(made, MANY)


def test_masking_by_minutes_is_rounded_to_the_steps_of_the_data():
  lengths = {"masking__gaps__shortest_minutes": 12, "masking__gaps__longest_minutes": 13}
  masking = from_config.masking(config(masking__temporal__block_minutes=17, masking__gaps__weight=1.0, **lengths), ONE)
  assert (masking.temporal_block, masking.gap_steps) == (2, (2, 3))


def test_gaps_with_weight_0_fit_data_of_longer_steps():
  hourly = Schema(60, (Channel("glucose"),))
  assert from_config.masking(config(model__patch_minutes=60), hourly).gap_steps == (1, 4)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"temporal.block_minutes": 4}, "config.masking.temporal.block_minutes is 4, expected 0 (independent patches) or"),
    (
      {"gaps.weight": 1.0, "gaps.shortest_minutes": 2},
      "config.masking.gaps.shortest_minutes is 2, expected what rounds to a step of the data's 5 minutes or more",
    ),
    (
      {"gaps.longest_minutes": 5},
      "config.masking.gaps.longest_minutes is 5, expected at least config.masking.gaps.shortest_minutes, 10",
    ),
    (
      {"random.weight": 0.0, "temporal.weight": 0.0, "sensor.weight": 0.0},
      "config.masking: the weights are random 0.0, temporal 0.0, sensor 0.0, gaps 0.0, expected one above 0",
    ),
  ],
)
def test_a_bad_masking_value_is_one_line(changes, message):
  made = config()
  made.masking.update_from_flattened_dict(changes)
  with pytest.raises(ConfigError) as error:
    from_config.masking(made, MANY)
  assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("schema", "group"), [(ONE, 1), (MANY, 34)], ids=["one channel", "one group"])
def test_sensor_alone_is_refused_where_there_is_nothing_to_predict_from(schema, group):
  made = config(model__patch_channels=group, masking__random__weight=0.0, masking__temporal__weight=0.0)
  message = r"sensor 0\.\d+, gaps 0\.0, expected one above 0; sensor has nothing to predict a single channel"
  with pytest.raises(ConfigError, match=message):
    from_config.masking(made, schema)
