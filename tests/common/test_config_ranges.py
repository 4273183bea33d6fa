"""Every number of a config has a range; each end of each range is accepted, and what lies beyond it refused by name."""

import importlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim import commands
from aim.common import config_files, config_ranges
from aim.common.config_files import ConfigError
from aim.common.config_ranges import Either, Number, OneOf, Range, Row, Several, Spelled, Text
from aim.inference import day_functions
from aim.model import lsm2
from aim.model.attention.backends import BACKENDS
from tests.common.test_config_files import config
from tests.golden import EXPERIMENTS

DEFAULTS = dict(config_files.leaves(config()))
KEYS = sorted(key for key, value in DEFAULTS.items() if not isinstance(value, bool))
NOT_NUMBERS = [math.nan, math.inf, -math.inf, None, True, "1", (), 1j]


def only(key, value):
  """A config of one key."""
  made = value
  for name in reversed(key.split(".")):
    made = {name: made}
  return made


def check(key, value):
  config_ranges.check(only(key, value), commands.RANGES)


def range_of(key) -> Range:
  allowed = config_ranges.range_of(key, commands.RANGES)
  assert allowed is not None, (
    f"config.{key} has no range: give it one in RANGES of the defaults.py that has its default, such as "
    f'"{key}": number(0, 1) or whole(1, 1000); for a text one_of("stop", "skip"), or TEXT if it may be anything '
    "(aim/common/config_ranges.py)"
  )
  return allowed


def beyond(allowed: Range) -> list:
  """Values just outside a range, and of another kind."""
  if isinstance(allowed, Number):
    step = 1 if allowed.whole else 1e-9 + abs(allowed.least) * 1e-9
    low = allowed.least if allowed.above else allowed.least - step
    high = allowed.most if allowed.below else allowed.most + max(step, allowed.most * 1e-9)
    outside = [low, math.ceil(high) if allowed.whole else high, -(10**30), 10**400 if allowed.whole else 1e300]
    return [value for value in outside if value not in allowed.instead] + [1.5] * allowed.whole + NOT_NUMBERS
  if isinstance(allowed, OneOf):
    return ["", f"{allowed.words[0]} ", None, 1, math.nan, allowed.words]
  if isinstance(allowed, Spelled):  # there is one, of log.profile_steps
    return ["anything", "100", "100:", "0:1", " 1:2", None, 1, ()]
  if isinstance(allowed, Several):
    members = [(value,) for value in beyond(allowed.of)]
    return ["", None, math.nan, 1, *members] + [()] * (not allowed.empty)
  if isinstance(allowed, Row):
    good = within(allowed)[0]
    wrong = [(*good[:i], value, *good[i + 1 :]) for i, part in enumerate(allowed.parts) for value in beyond(part)]
    return [(), (*good, 1), math.nan, *wrong]
  if isinstance(allowed, Either):
    return [value for part in (allowed.first, allowed.second) for value in beyond(part) if not allowed.accepts(value)]
  return [None, 1, math.nan, ()]


def within(allowed: Range) -> list:
  """The ends of a range."""
  if isinstance(allowed, Number):
    tiny = 1 if allowed.whole else (allowed.most - allowed.least) * 1e-12
    low = allowed.least + tiny if allowed.above else allowed.least
    high = allowed.most - tiny if allowed.below else allowed.most
    return [low, high, *allowed.instead]
  if isinstance(allowed, OneOf):
    return list(allowed.words)
  if isinstance(allowed, Spelled):
    return ["", "1:1", "100:110"]
  if isinstance(allowed, Several):
    values = within(allowed.of)
    return [*((value,) for value in values), values, tuple(values)] + [()] * allowed.empty
  if isinstance(allowed, Row):
    parts = [within(part) for part in allowed.parts]
    return [tuple(values[i % len(values)] for values in parts) for i in range(max(map(len, parts)))]
  if isinstance(allowed, Either):
    return within(allowed.first) + within(allowed.second)
  return ["", "anything"]


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_a_range_whose_ends_hold(key):
  allowed = range_of(key)
  for value in within(allowed):
    check(key, value)
  for value in beyond(allowed):
    with pytest.raises(ConfigError) as error:
      check(key, value)
    assert str(error.value).startswith(f"config.{key} ") and "expected " in str(error.value)
    assert "\n" not in str(error.value)


def test_every_range_is_of_a_key():
  """Otherwise a key was renamed and its range was not."""
  used = {key for key in commands.RANGES if any(config_ranges.range_of(k, {key: Text()}) for k in KEYS)}
  assert sorted(set(commands.RANGES) - used) == []


@given(least=st.integers(-5, 5), size=st.integers(0, 9), value=st.floats() | st.integers(), options=st.data())
def test_a_number_is_accepted_between_its_ends_alone(least, size, value, options):
  above, below, whole = (options.draw(st.booleans()) for _ in range(3))
  allowed = Number(least, least + size, above, below, whole, instead={-9: "nothing"})
  inside = least <= value <= least + size and not (above and value == least) and not (below and value == least + size)
  assert allowed.accepts(value) == ((inside or value == -9) and (isinstance(value, int) or not whole))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_within_its_ranges(name):
  made = importlib.import_module(f"experiments.{name}").get_config()
  config_ranges.check(made, commands.RANGES)
  config_ranges.check(config_files.to_dict(made), commands.RANGES)  # as config.json has it: lists for tuples


def test_choices_are_those_of_the_code():
  words = lambda key: set(range_of(key).words)
  assert words("model.attention") == {"auto", *BACKENDS}
  assert words("model.decoder.tokens") == set(lsm2.DECODER_TOKENS)
  assert words("probe.pool") == set(day_functions.POOLS)
  assert words("impute.short_holes") == set(day_functions.SHORT_HOLES)


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("optimizer.learning_rate", math.inf, "is inf, expected a number above 0 and at most 1,000"),
    ("optimizer.learning_rate", math.nan, "is nan, expected a number above 0 and at most 1,000"),
    ("optimizer.warmup_share", 1.5, "is 1.5, expected a number from 0 to 1"),
    ("masking.random.ratio", 1.0, "is 1.0, expected a number above 0 and below 1"),
    ("views.scale", 1.0, "is 1.0, expected a number from 0 to below 1"),
    ("model.encoder.layers", 0, "is 0, expected a whole number from 1 to 1,000"),
    ("mesh.data", 0, "is 0, expected a whole number from 1 to 1,000,000, or -1 (all remaining devices)"),
    ("optimizer.on_nan", "skp", "is 'skp', expected one of stop, skip; the nearest is skip"),
    ("evaluate.random_percent", (30, 100), "holds 100, expected a whole number from 1 to 99"),
    ("evaluate.imputers", ("lineal",), "holds 'lineal', expected one of mean, nearest, linear, locf, "),
    ("finetune.seeds", (), "is (), expected one or more values, each a whole number from 0 to 4,294,967,295"),
    ("probe.tasks", "age", "is 'age', expected a tuple of any number of values, each a text"),
  ],
)
def test_a_value_out_of_its_range_is_one_line(key, value, message):
  with pytest.raises(ConfigError) as error:
    check(key, value)
  assert str(error.value).startswith(f"config.{key} {message}")


def test_numbers_of_unknown_keys_are_finite():
  made = config()
  made.mine = {"share": 2.0, "shares": (1.0, (math.nan,))}
  with pytest.raises(ConfigError, match=r"config\.mine\.shares is .*nan.*, expected a finite number"):
    config_ranges.check(made, commands.RANGES)
  made.mine.shares = (1.0,)
  config_ranges.check(made, commands.RANGES)


def test_where_a_config_is_from_begins_the_message():
  with pytest.raises(ConfigError, match=r"^runs/a/config\.json: config\.seed is -1, expected a whole number from 0"):
    config_ranges.check(only("seed", -1), commands.RANGES, where="runs/a/config.json: ")
