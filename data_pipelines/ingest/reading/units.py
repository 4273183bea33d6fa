"""Units found in exports, and conversion between them. Unknown units are refused, never guessed."""

from __future__ import annotations

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
  {"mmhg": (1, 0), "kpa": (7.50061683, 0)},
  {"uS µS μS microsiemens": (1, 0)},
  {"w watt watts": (1, 0)},
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
_CASE_SENSITIVE = {"Cal", "Calorie", "Calories", "uS", "µS", "μS"}
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


def _find(spelling: str) -> Unit | None:
  spelling = spelling.strip()
  return UNITS.get(spelling) or (None if spelling == "CAL" else _ANY_CASE.get(spelling.casefold()))
