"""Units found in exports and schemas, and conversion between them. Unknown units are refused, never guessed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_pipelines.errors import SchemaError

# mg/dL per mmol/L of glucose: a tenth of its molar mass, 180.16 g/mol (PubChem CID 5793).
GLUCOSE = 18.016

# Each dictionary is one quantity. Each key lists the spellings of a unit; base unit = value * factor + shift.
_QUANTITIES: tuple[dict[str, tuple[float, float]], ...] = (
  {  # frequency; base: per minute
    "bpm beats/min beats_per_minute count/min counts/min 1/min /min min^-1 brpm breaths/min rpm steps/min": (1, 0),
    "count/s counts/s 1/s hz": (60, 0),
    "steps/15min": (1 / 15, 0),
    "count/h counts/h 1/h": (1 / 60, 0),
  },
  {"count counts steps step floors floor flights": (1, 0)},
  {"fraction ratio": (1, 0), "% percent pct": (0.01, 0)},
  {  # energy; base: kcal
    "kcal Cal Calorie Calories kilocalories largeCalorie": (1, 0),
    "cal smallCalorie": (0.001, 0),
    "kj kilojoules": (1 / 4.184, 0),
    "j joules": (0.001 / 4.184, 0),
  },
  {  # length; base: m
    "m meter meters metre metres": (1, 0),
    "km kilometers kilometer kilometres": (1000, 0),
    "cm centimeters": (0.01, 0),
    "mm": (0.001, 0),
    "mi mile miles": (1609.344, 0),
    "yd yards": (0.9144, 0),
    "ft feet": (0.3048, 0),
    "in inches": (0.0254, 0),
  },
  {  # temperature; base: degree Celsius
    "c degc °c celsius": (1, 0),
    "f degf °f fahrenheit": (5 / 9, -160 / 9),
    "k kelvin": (1, -273.15),
  },
  {"mmol/l mmol<180.1558800000541>/l mmol<180.15588000005408>/l": (GLUCOSE, 0), "mg/dl": (1, 0)},
  {  # time; base: s
    "s sec secs second seconds": (1, 0),
    "ms msec millisecond milliseconds": (0.001, 0),
    "us µs μs": (1e-6, 0),
    "min mins minute minutes": (60, 0),
    "h hr hrs hour hours": (3600, 0),
  },
  {  # speed; base: m/s
    "m/s mps": (1, 0),
    "km/h km/hr kph kmh": (1 / 3.6, 0),
    "mph mi/h mi/hr": (0.44704, 0),
  },
  {"kg": (1, 0), "g": (0.001, 0), "lb lbs": (0.45359237, 0)},
  {"mmhg": (1, 0), "kpa": (7.50061683, 0), "hpa mbar": (0.750061683, 0)},
  {"uS µS μS microsiemens": (1, 0)},
  {"uS/h µS/h μS/h": (1, 0), "uS/min µS/min μS/min": (60, 0)},
  {"c/h degc/h °c/h": (1, 0), "c/min degc/min °c/min": (60, 0), "f/h degf/h °f/h": (5 / 9, 0)},
  {"kcal/min": (1, 0), "kcal/15min": (1 / 15, 0), "kj/min": (1 / 4.184, 0), "w watt watts": (60 / 4184, 0)},  # power
  {"m/s2 m/s^2": (1, 0), "gravity": (9.80665, 0), "milligravity": (0.00980665, 0)},  # acceleration
  {"rad/s": (1, 0), "deg/s °/s": (math.pi / 180, 0)},
  {"lux lx": (1, 0)},
  {"met mets": (1, 0)},
  {"mims": (1, 0)},
)


class Unit(NamedTuple):
  """A unit of a quantity: value in the quantity's base unit = value * factor + shift."""

  quantity: int
  factor: float
  shift: float


# Units by spelling. Any letter case will do, except that Cal (food) is not cal, and uS (conductance) is not us (time).
UNITS = {
  spelling: Unit(quantity, *numbers)
  for quantity, units in enumerate(_QUANTITIES)
  for spellings, numbers in units.items()
  for spelling in spellings.split()
}
_CASE_SENSITIVE = {"Cal", "Calorie", "Calories", *(unit for unit in UNITS if unit.startswith(("uS", "µS", "μS")))}
_ANY_CASE = {spelling.casefold(): unit for spelling, unit in UNITS.items() if spelling not in _CASE_SENSITIVE}


def convert(values: Float[np.ndarray, "..."], unit: str, to: str, where: str) -> Float[np.ndarray, "..."]:
  """Converts values from `unit` to the unit `to`.

  Raises:
    SchemaError: a unit is unknown, or the two measure different quantities. The message names `where` and both units.
  """
  if unit == to:
    return values
  source, target = _find(unit), _find(to)
  if source is None or target is None or source.quantity != target.quantity:
    raise SchemaError(f"{where}: unit is {unit!r}, expected {to!r} or a unit that converts to it")
  if source == target:
    return values
  return (values * source.factor + (source.shift - target.shift)) / target.factor


def convert_amounts(
  values: Float[np.ndarray, "..."], unit: str, to: str, minutes: float, where: str
) -> Float[np.ndarray, "..."]:
  """Converts what was counted in a step, such as steps or kcal; either unit may also be a rate, such as steps/min.

  Args:
    values: one per step.
    unit: of the values.
    to: the unit of the result.
    minutes: length of a step, by which an amount and a rate differ.
    where: begins the message.

  Raises:
    SchemaError: a unit is unknown, or one is neither an amount nor a rate of what the other counts.
  """
  source, target = _find(unit), _find(to)
  if source is not None and target is not None:
    for amount, rate in _RATES:
      if (source.quantity, target.quantity) == (amount.quantity, rate.quantity):
        return values * (source.factor / minutes * rate.factor / target.factor)
      if (source.quantity, target.quantity) == (rate.quantity, amount.quantity):
        return values * (source.factor * minutes / rate.factor / target.factor)
  return convert(values, unit, to, where)


def is_known(unit: str) -> bool:
  """True if the table has this unit; the empty one, of codes and scores, is known."""
  return not unit or _find(unit) is not None


def _find(spelling: str) -> Unit | None:
  spelling = spelling.strip()
  return UNITS.get(spelling) or (None if spelling == "CAL" else _ANY_CASE.get(spelling.casefold()))


# Amounts and their rates: so many base units per minute, times the rate's factor, are a rate in its base unit.
_RATES = (
  (UNITS["count"], Unit(UNITS["1/min"].quantity, 1, 0)),
  (UNITS["kcal"], Unit(UNITS["kcal/min"].quantity, 1, 0)),
  (UNITS["m"], Unit(UNITS["m/s"].quantity, 1 / 60, 0)),
)
