"""Recipes of imports: what is written can be read back, and errors are one line."""

import dataclasses
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.gridding.recipe import Recipe, WearRule
from data_pipelines.ingest.reading.signals import Signal
from data_pipelines.schema import Channel

HEART = Signal("heart_rate", "bpm", "PPG", low=20, high=250, zero_is_missing=True)
STEPS = Signal("steps", "steps", "ACC", rule="sum", quiet=True)
ASLEEP = Signal("asleep", sensor="sleep", kind="binary", holds=True)
KNOWN = (HEART, STEPS, ASLEEP)
C_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # another parser, and a faster one


def test_the_default_has_the_exports_signals_in_the_importers_order():
  recipe = Recipe.default(KNOWN, {"asleep", "heart_rate"})
  assert recipe.signals == (HEART, ASLEEP) and recipe.minutes_per_step == 1 and recipe.max_missing == 0.8
  assert recipe.schema.channels == (Channel("heart_rate", "bpm", "PPG"), Channel("asleep", "", "sleep", "binary"))
  assert all(type(channel) is Channel for channel in recipe.schema.channels)
  assert recipe.index("asleep") == 1 and recipe.index("steps") is None


names = st.text("abcdefgh_é", min_size=1, max_size=8)
numbers = st.floats(-1e6, 1e6)


@st.composite
def recipes(draw):
  signals = []
  for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
    rule = draw(st.sampled_from(["mean", "sum", "last"]))
    low, high = sorted([draw(numbers | st.just(-math.inf)), draw(numbers | st.just(math.inf))])
    flags = {"zero_is_missing": draw(st.booleans()), "quiet": draw(st.booleans())}
    flags["holds"] = rule != "sum" and draw(st.booleans())
    unit = draw(st.sampled_from(["", "bpm", "%", "C", "null", "1", "yes", "no: x", "µS", "'", "# a"]))
    # of the signal's own name, or of one that no other can have
    flags |= {"of": draw(st.sampled_from(["", f"{name} too"])), "present": draw(st.booleans())}
    flags["devices"] = tuple(draw(st.lists(names, max_size=2)))
    flags["zero_on_days_of"] = draw(st.sampled_from(["", name]))
    kind, clip = draw(st.sampled_from(["continuous", "binary"])), draw(st.floats(0.1, 100))
    signals.append(Signal(name, unit, draw(names), kind, clip, rule, low=low, high=high, **flags))
  worn = WearRule(draw(st.sampled_from(["auto", "off"])), draw(names), draw(names), "", draw(st.integers(0, 99)))
  minutes = draw(st.sampled_from([1, 5, 15]))
  return Recipe(tuple(signals), minutes, draw(st.floats(0, 1)), draw(st.integers(1, 1440)), worn)


@given(recipes())
@settings(max_examples=60, deadline=None)
def test_a_written_recipe_is_read_again(recipe):
  text = recipe.to_yaml()
  assert Recipe.from_yaml(text) == recipe == Recipe.from_yaml(recipe.to_yaml(comments=False))
  assert yaml.load(text, C_LOADER)["signals"][0]["name"] == recipe.signals[0].name  # plain YAML, for any parser
  assert all(len(line) <= 120 for line in text.splitlines() if line.startswith("#"))


def test_readings_belong_to_the_signal_of_their_device():
  recipe = Recipe((Signal("a", of="steps", devices=("watch",)), Signal("b", of="steps", devices=("phone", "in bed"))))
  several = ("0 apple 00 watch", "0 apple 01 watch 2", "1 apple 10 phone 2", "1 apple 27 in bed")
  assert [recipe.place_of("steps", device) for device in ("watch", "watch 2", "phone 9", "in bed")] == [0, 0, 1, 1]
  assert [recipe.place_of("steps", device) for device in several] == [0, 0, 1, 1]
  others = ("other", "watch x", "stopwatch", "entered by hand", "")
  assert {recipe.place_of("steps", device) for device in others} == {None} == {recipe.place_of("a", "watch")}


def test_loading_a_file(tmp_path):
  path = tmp_path / "recipe.yaml"
  path.write_text(Recipe(KNOWN).to_yaml(), encoding="utf-8")
  assert Recipe.load(path, KNOWN) == Recipe(KNOWN)
  assert "low: 20" in path.read_text() and "# Days on which" in path.read_text()
  with pytest.raises(SchemaError, match="no such file"):
    Recipe.load(tmp_path / "none.yaml")
  path.write_bytes(b"\xff\xfe")
  with pytest.raises(SchemaError, match="not UTF-8"):
    Recipe.load(path)


WHOLE = Recipe(KNOWN).to_yaml()
GOOD = yaml.safe_load(WHOLE)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"minute_per_step": 1}, "key 'minute_per_step' is unknown; the nearest is 'minutes_per_step'"),
    ({"minutes_per_step": 7}, "minutes_per_step is 7, expected a divisor of 1440"),
    ({"minutes_per_step": "1"}, "key 'minutes_per_step' is '1', expected a whole number"),
    ({"max_missing": 80}, "key 'max_missing' is 80.0, expected 0 to 1"),
    ({"max_missing": float("nan")}, "key 'max_missing' is nan"),
    ({"longest_sum": 0}, "key 'longest_sum' is 0, expected 1 to 1440"),
    ({"signals": []}, "key 'signals' is missing or empty"),
    ({"signals": [{"unit": "bpm"}]}, "key 'signals[0].name' is missing"),
    ({"signals": ["steps"]}, "key 'signals[0]' is 'steps', expected keys and values"),
    ({"signals": [{"name": "steps", "rule": "median"}]}, "key 'signals[0].rule' is 'median', expected mean, sum, last"),
    ({"signals": [{"name": "steps", "quite": True}]}, "key 'signals[0].quite' is unknown; the nearest is 'quiet'"),
    ({"signals": [{"name": "steps", "quiet": "yes"}]}, "key 'signals[0].quiet' is 'yes', expected true or false"),
    ({"signals": [{"name": "steps", "low": 3, "high": 2}]}, "key 'signals[0].low' is 3, above 'high', 2"),
    ({"signals": [{"name": "steps", "low": float("nan")}]}, "key 'signals[0].low' is nan"),
    ({"signals": [{"name": "steps", "rule": "sum", "holds": True}]}, "key 'signals[0].holds' is true"),
    ({"signals": [{"name": "steps", "clip": 0}]}, "key 'signals[0]': schema: channel 'steps': clip is 0"),
    (
      {"signals": [{"name": "heart_rat"}]},
      "key 'signals[0].name' is 'heart_rat', expected a known signal; the nearest is 'heart_rate'",
    ),
    ({"signals": [{"name": "steps"}, {"name": "steps"}]}, "channel 'steps' appears more than once"),
    ({"worn": {"rule": "hart"}}, "key 'worn.rule' is 'hart', expected auto, heart"),
    ({"worn": {"rule": "choi"}}, "key 'worn.counts' is 'activity_counts', expected a signal of the recipe"),
    ({"worn": {"within": -1}}, "key 'worn.within' is -1"),
    ({"worn": 3}, "key 'worn' is 3, expected keys and values"),
    (
      {"signals": [{"name": "mine", "of": "steps"}, {"name": "x", "of": "step"}]},
      "key 'signals[1].of' is 'step', expected a known signal; the nearest is 'steps'",
    ),
    ({"signals": [{"name": "steps", "devices": "watch"}]}, "'signals[0].devices' is 'watch', expected a list of texts"),
    ({"signals": [{"name": "steps", "events": [1]}]}, "'signals[0].events' is [1], expected a list of texts"),
    ({"signals": [{"name": "a", "events": ["yoga"]}]}, "key 'signals[0].events' is given, expected kind 'binary'"),
    (
      {"signals": [{"name": "steps", "zero_on_days_of": "step"}]},
      "key 'signals[0].zero_on_days_of' is 'step', expected a signal of the recipe; the nearest is 'steps'",
    ),
    (
      {"signals": [{"name": "steps", "devices": ["watch"]}, {"name": "all", "of": "steps"}]},
      "key 'signals[1].devices' lets all have readings that steps has",
    ),
  ],
)
def test_errors_name_file_and_key(change, message):
  with pytest.raises(SchemaError) as error:
    Recipe.from_yaml(yaml.safe_dump({**GOOD, **change}), "mine.yaml", KNOWN)
  assert str(error.value).startswith("mine.yaml: ") and message in str(error.value)
  assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
  "text",
  [
    "",
    "- 1",
    "a: [",
    "signals: 3",
    "x: 1\nx: 2",
    "a: &a [1]\nb: *a",
    "!!python/object/apply:os.system [ls]",
    "? [a]\n: 1",
    "\0",
    "[" * 5000,
    "a: 2024-99-99",
  ],
)
def test_a_file_that_is_no_recipe_gives_one_line(text):
  with pytest.raises(SchemaError) as error:
    Recipe.from_yaml(text, "mine.yaml")
  assert str(error.value).startswith("mine.yaml:") and len(str(error.value).splitlines()) == 1


@given(st.text(max_size=80) | st.text("[]{}:- \n#&*!'\"a1,?|>", max_size=80), st.integers(0, 900), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_recipe_or_gives_one_line(text, at, cut):
  for broken in (text, WHOLE[:at] + text + WHOLE[at + cut :]):
    try:
      assert dataclasses.is_dataclass(Recipe.from_yaml(broken))
    except SchemaError as error:
      assert len(str(error).splitlines()) == 1
