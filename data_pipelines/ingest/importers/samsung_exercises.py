"""Names of Samsung Health's exercise types (developer.samsung.com/health/android, "Predefined Exercise Type")."""

from __future__ import annotations

_NAMES = {
  1001: "walking, running",
  2001: "baseball, softball, cricket",
  3001: "golf, billiards, bowling",
  4001: "hockey, rugby, basketball, football, handball, american football",
  5001: "volleyball, beach volleyball",
  6001: "squash, tennis, badminton, table tennis, racquetball",
  7001: "tai chi, boxing, martial arts",
  8001: "ballet, dancing, ballroom dancing",
  9001: "pilates, yoga",
  10001: "stretching, jump rope, push-ups, pull-ups, sit-ups, circuit training",
  11007: "cycling",
  12001: "aerobics",
  13001: "hiking, rock climbing, backpacking, mountain biking, orienteering",
  14001: "swimming, aquarobics",
  15001: "step machine, weight machine, exercise bike, rowing machine, treadmill, elliptical trainer",
  16001: "cross-country skiing, skiing",
}
NAMES = {first + i: name for first, names in _NAMES.items() for i, name in enumerate(names.split(", "))}
NAMES[0] = "custom"


def exercise_name(code: str) -> str | None:
  """Returns the name of an exported code such as "1002", "exercise 10016" for an unknown one, None for other text."""
  if not code.isascii() or not code.isdecimal() or len(code) > 6:
    return None
  return NAMES.get(int(code), f"exercise {int(code)}")
