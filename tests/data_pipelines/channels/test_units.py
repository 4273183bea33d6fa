"""Conversion between units, and refusal of unknown ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.channels.units import UNITS, convert
from data_pipelines.errors import SchemaError


@pytest.mark.parametrize(
  "value, unit, to, expected",
  [
    (61.0, "count/min", "bpm", 61.0),
    (1.5, "count/s", "bpm", 90.0),
    (212.0, "degF", "C", 100.0),
    (97.7, "°F", "degC", 36.5),
    (300.0, "K", "C", 26.85),
    (1.5, "mi", "m", 2414.016),
    (0.25, "km", "m", 250.0),
    (180.0, "cm", "m", 1.8),
    (418.4, "kJ", "kcal", 100.0),
    (3.0, "Cal", "kcal", 3.0),
    (3000.0, "cal", "kcal", 3.0),
    (99.088, "mg/dL", "mmol/L", 5.5),
    (5.5, "mmol<180.1558800000541>/L", "mg/dL", 99.088),
    (0.97, "fraction", "%", 97.0),
    (835.0, "ms", "s", 0.835),
    (2.0, "hr", "min", 120.0),
    (36.0, "km/h", "m/s", 10.0),
    (12.0, "count", "steps", 12.0),
    (0.4, "uS", "µS", 0.4),
  ],
)
def test_known_conversions(value, unit, to, expected):
  assert convert(np.array([value]), unit, to, "x")[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
  "unit, to", [("furlong", "m"), ("", "%"), ("bpm", "m"), ("CAL", "kcal"), ("uS", "s"), ("kcal", "C"), ("mmol/L", "%")]
)
def test_other_conversions_are_refused_in_one_line(unit, to):
  with pytest.raises(SchemaError) as error:
    convert(np.array([1.0]), unit, to, "export.xml row 7")
  assert str(error.value).startswith("export.xml row 7: unit is ") and repr(unit) in str(error.value)
  assert repr(to) in str(error.value)


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)), st.floats(-1e6, 1e6))
def test_conversions_are_reversible(unit, to, value):
  values = np.array([value])
  if UNITS[unit].quantity != UNITS[to].quantity:
    with pytest.raises(SchemaError):
      convert(values, unit, to, "x")
  else:
    assert convert(convert(values, unit, to, "x"), to, unit, "x")[0] == pytest.approx(value, rel=1e-9, abs=1e-6)


def test_equal_units_need_not_be_known():
  values = np.array([1.0, 2.0])
  assert convert(values, "furlongs/fortnight", "furlongs/fortnight", "x") is values
