"""The vocabulary covers what importers and shared data have, its places never change, and a user's file extends it."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.channels import units, vocabulary
from data_pipelines.channels.vocabulary import SHIPPED, VocabularyError
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.lsm2_schema import LSM2_REFERENCE, LSM2_SCHEMA

# A place, once given, is that of its channel for ever: weights are known by it. Add lines, never change one.
PLACES = pathlib.Path(__file__).with_name("places.json")


def signals():
  return {(importer, signal.name): signal for importer in IMPORTERS for signal in IMPORTERS[importer].signals}


@pytest.mark.parametrize("importer, name", sorted(signals()))
def test_every_signal_of_every_importer_is_an_entry_of_equal_meaning(importer, name):
  signal, entry = signals()[importer, name], vocabulary.load().find(name)
  assert entry is not None and entry.name == name
  assert (entry.unit, entry.sensor, entry.kind, entry.rule) == (signal.unit, signal.sensor, signal.kind, signal.rule)
  assert entry.low <= max(signal.low, entry.low) < min(signal.high, entry.high) <= entry.high


def test_the_channels_of_lsm2_are_entries_whose_units_convert():
  for channel in LSM2_SCHEMA.channels:
    entry = vocabulary.load().find(channel.name)
    assert entry is not None and entry.kind == channel.kind and entry.sensor == channel.sensor
    mean, _ = LSM2_REFERENCE[channel.name]
    converted = units.convert_amounts(np.array([mean]), channel.unit or entry.unit, entry.unit, 1, channel.name)[0]
    assert entry.low <= converted <= entry.high, channel.name
  assert len({vocabulary.load().find(name).place for name in LSM2_SCHEMA.names}) == 26


def test_the_channels_of_the_shared_data_are_entries_and_their_values_are_plausible(shared_data):
  files = [path for path in sorted(shared_data.glob("*.npz")) if path.name != "nhanes_wear.npz"]
  for path in files:
    with np.load(path) as arrays:
      names, values = arrays["channels"].tolist(), arrays["values"][:40]
    entries = [vocabulary.load().find(name) for name in names]
    assert None not in entries, path
    assert len({entry.name for entry in entries}) == len(names), path
    for name, entry, column in zip(names, entries, np.moveaxis(values, -1, 0), strict=True):
      observed = column[~np.isnan(column)]
      if (path.stem, name) != ("mhealth1", "sleep"):  # minutes or stages, not whether asleep: found out by its range
        assert ((observed >= entry.low) & (observed <= entry.high)).mean() > 0.99, (path.name, name)


def test_a_place_once_given_never_changes():
  frozen = json.loads(PLACES.read_text())
  places = {entry.name: entry.place for entry in vocabulary.load().entries}
  assert {name: places.get(name) for name in frozen} == frozen
  added = sorted(set(places) - set(frozen))
  assert not added, f"add these to {PLACES.name}, with a new version of the vocabulary: {added}"
  assert len(set(places.values())) == len(places) and max(places.values()) < vocabulary.FIRST_OWN_PLACE


def test_a_name_is_found_exactly_then_without_case_and_underscores():
  shipped = vocabulary.load()
  for name in ("heart_rate", "Heart Rate", "HEART-RATE", "heartRate", "hr"):
    assert shipped.find(name) is shipped.find("heart_rate")
  assert shipped.find("steps_15min") is not shipped.find("steps")
  assert shipped.find("step_count") is shipped.find("steps")
  steps = shipped.find("steps")
  assert steps.unit_of("step_count") == "steps/min" and steps.unit_of("steps") == "steps"
  assert shipped.find("heart") is None and shipped.find("") is None


OWN = """
aliases:
  heart_rate: [watch_hf, {hf_per_second: Hz}]
channels:
  - name: grip_force
    place: 1000
    unit: kg
    sensor: grip
    range: [0, 100]
    aliases: [force, {force_g: g}]
    rule: max
    meaning: how hard the hand grips
"""


def test_a_users_file_extends_the_shipped_entries(tmp_path):
  own = tmp_path / "own.yaml"
  own.write_text(OWN)
  extended = vocabulary.load(own)
  assert extended.find("Force_g").place == 1000 and extended.find("force_g").unit_of("force_g") == "g"
  assert extended.find("watch_hf").name == "heart_rate" and extended.find("watch_hf").place == 0
  assert extended.version == vocabulary.load().version and vocabulary.load().find("watch_hf") is None
  assert [e.place for e in extended.entries if e.place < 1000] == [e.place for e in vocabulary.load().entries]


ENTRY = {"name": "grip_force", "place": 1000}


@pytest.mark.parametrize(
  "entry, words",
  [
    ({"name": "heart_rate"}, "name 'heart_rate' is already that of 'heart_rate'"),
    ({"name": "Heart Rate"}, "name 'Heart Rate' is already that of 'heart_rate'"),
    ({"aliases": ["pulse"]}, "name 'pulse' is already that of 'heart_rate'"),
    ({"aliases": ["grip", "grip"]}, "alias 'grip' appears more than once"),
    ({"aliases": [{"grip": "furlong"}]}, "unit 'furlong' is unknown"),
    ({"aliases": [{"grip": "bpm"}]}, "alias 'grip': unit is 'bpm'"),
    ({"aliases": [7]}, "alias 7, expected a name"),
    ({"aliases": "grip"}, "'aliases' is 'grip', expected a list"),
    ({"place": 7}, "place is 7, expected 1000 to 9999"),
    ({"place": "1000"}, "key 'place' is '1000', expected a whole number"),
    ({"place": True}, "key 'place' is True, expected a whole number"),
    ({"unit": "furlong"}, "unit 'furlong' is unknown"),
    ({"sensors": "ACC"}, "key 'sensors' is unknown; the nearest is 'sensor'"),
    ({"rule": "median"}, "rule is 'median', expected one of mean, sum, max, last"),
    ({"kind": "binary", "rule": "mean"}, "rule is 'mean', expected last or max"),
    ({"kind": "text"}, "kind is 'text'"),
    ({"clip": -1}, "clip is -1"),
    ({"range": [5, 1]}, "range is [5, 1], expected [low, high]"),
    ({"name": ""}, "empty name"),
  ],
)
def test_a_bad_entry_is_refused_in_one_line_that_names_file_and_entry(tmp_path, entry, words):
  own = tmp_path / "own.yaml"
  own.write_text(json.dumps({"channels": [{**ENTRY, "unit": "kg", **entry}]}))
  with pytest.raises(VocabularyError) as error:
    vocabulary.load(own)
  message = str(error.value)
  assert words in message and message.startswith(str(own)) and "\n" not in message
  assert "channels[0]" in message or "grip_force" in message or "Heart Rate" in message or "heart_rate" in message


@pytest.mark.parametrize(
  "text, words",
  [
    ("channels: [{name: a, place: 1000}, {name: b, place: 1000}]", "place 1000 is already that of 'a'"),
    ("channels: [{name: a}]", "key 'place' is missing"),
    ("channels: [7]", "channels[0] is 7"),
    ("channels: 7", "key 'channels' is 7"),
    ("channel: []", "key 'channel' is unknown; the nearest is 'channels'"),
    ("version: 2\nchannels: []", "key 'version' is unknown"),
    ("aliases: {heart: [x]}", "'heart' is no channel of the vocabulary"),
    ("aliases: {heart_rate: x}", "aliases are 'x', expected a list"),
    ("channels: [{name: a, name: b, place: 1000}]", "key 'name' appears more than once"),
    ("- a", "expected keys such as 'channels'"),
    ("channels: [", "not YAML"),
  ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path, text, words):
  own = tmp_path / "own.yaml"
  own.write_text(text)
  with pytest.raises(SchemaError) as error:
    vocabulary.load(own)
  assert words in str(error.value) and str(own) in str(error.value) and "\n" not in str(error.value)


def test_an_absent_file_is_one_line(tmp_path):
  with pytest.raises(SchemaError, match=r"none\.yaml"):
    vocabulary.load(tmp_path / "none.yaml")


def test_the_vocabulary_is_light_to_read():
  code = "import sys; from data_pipelines.channels import vocabulary; vocabulary.load(); print(*sys.modules)"
  loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
  assert not {"jax", "grain", "tensorflow_datasets", "pandas"} & set(loaded)


def test_the_shipped_file_lies_beside_its_reader():
  assert SHIPPED.is_file()
