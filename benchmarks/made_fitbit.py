"""Artificial Fitbit exports with the layout of real ones: Fitabase's files of a study, and one person's Takeout."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

_DAYS = 31  # as in Fitabase's public sample, in which 14 of 33 people have heart rates, 2.5 million in total
_PEOPLE, _HEARTS, _BEATS = 33, 14, 180_000
_MB_A_PERSON = 9.7
_MB_A_MONTH = 58  # of Takeout
_FIRST = np.datetime64("2016-04-12T00:00:00", "s")


def fitabase(folder: pathlib.Path, megabytes: int) -> None:
  """Writes the narrow minute files, minuteSleep and heartrate_seconds; 320 MB are as many people as in the sample."""
  folder.mkdir(parents=True)
  people = range(math.ceil(megabytes / _MB_A_PERSON))
  minutes = _texts(_FIRST + 60 * np.arange(_DAYS * 1440))
  half = _texts(_FIRST + 30 + 60 * np.arange(_DAYS * 1440))
  night = np.flatnonzero(np.arange(_DAYS * 1440) % 1440 < 420)
  kinds: dict[str, tuple[str, Callable[[np.random.Generator], list[str]]]] = {
    "minuteStepsNarrow": ("ActivityMinute,Steps", lambda rng: _column(rng.integers(0, 120, len(minutes)))),
    "minuteIntensitiesNarrow": ("ActivityMinute,Intensity", lambda rng: _column(rng.integers(0, 4, len(minutes)))),
    "minuteCaloriesNarrow": ("ActivityMinute,Calories", lambda rng: _column(rng.uniform(0.7, 9, len(minutes)))),
    "minuteMETsNarrow": ("ActivityMinute,METs", lambda rng: _column(rng.integers(10, 90, len(minutes)))),
  }
  for kind, (columns, values) in kinds.items():
    with (folder / f"{kind}_merged.csv").open("w") as file:
      file.write(f"Id,{columns}\n")
      for person in people:
        made = values(np.random.default_rng(person))
        file.writelines(f"{_id(person)},{t},{v}\n" for t, v in zip(minutes, made, strict=True))
  with (folder / "minuteSleep_merged.csv").open("w") as file:
    file.write("Id,date,value,logId\n")
    for person in people:
      states = np.random.default_rng(person).integers(1, 4, len(half))
      file.writelines(f"{_id(person)},{half[i]},{states[i]},11380564589\n" for i in night)
  with (folder / "heartrate_seconds_merged.csv").open("w") as file:
    file.write("Id,Time,Value\n")
    for person in (person for person in people if person % _PEOPLE < _HEARTS):
      rng = np.random.default_rng(person)
      # Samples are 5 to 15 seconds apart, and those of one person do not fill the month.
      times = _texts(_FIRST + np.cumsum(rng.choice([5, 10, 15], _BEATS)) % (_DAYS * 86_400))
      file.writelines(f"{_id(person)},{t},{v}\n" for t, v in zip(times, rng.integers(50, 120, _BEATS), strict=True))


def takeout(folder: pathlib.Path, megabytes: int) -> None:
  """Writes one person's Global Export Data: heart rates every five seconds, a month per file, and values per minute."""
  place = folder / "Takeout" / "Fitbit" / "Global Export Data"
  place.mkdir(parents=True)
  for month in range(math.ceil(megabytes / _MB_A_MONTH)):
    _month(place, _FIRST + np.timedelta64(30 * month, "D"), np.random.default_rng(month))


def study(folder: pathlib.Path, people: int, days: int) -> None:
  """Writes a Takeout of so many days for each of some people, a folder each."""
  for person in range(people):
    place = folder / f"person{person:05d}" / "Takeout" / "Fitbit" / "Global Export Data"
    place.mkdir(parents=True)
    _month(place, _FIRST, np.random.default_rng(person), days)


def _month(place: pathlib.Path, first: np.datetime64, rng: np.random.Generator, days: int = 30) -> None:
  date = first.astype("datetime64[D]")
  times = first + 5 * np.arange(days * 17_280)
  heart = (f'{{\n    "bpm" : {beat},\n    "confidence" : 3\n  }}' for beat in rng.integers(50, 120, len(times)))
  _series(place / f"heart_rate-{date}.json", times, heart)
  minutes = first + 60 * np.arange(days * 1440)
  for kind, most in (("steps", 120), ("distance", 9000), ("calories", 9)):
    _series(place / f"{kind}-{date}.json", minutes, (f'"{v}"' for v in rng.integers(0, most, len(minutes))))


def _series(path: pathlib.Path, times: np.ndarray, values: Iterable[str]) -> None:
  with path.open("w") as file:
    file.write("[")
    for i, (time, value) in enumerate(zip(times.tolist(), values, strict=True)):
      file.write(f'{"," * (i > 0)}{{\n  "dateTime" : "{time:%m/%d/%y %H:%M:%S}",\n  "value" : {value}\n}}')
    file.write("]")


def _id(person: int) -> int:
  return 1503960366 + 7_000_003 * person


def _texts(times: np.ndarray) -> list[str]:
  """Times in Fitabase's format, 4/12/2016 1:05:00 AM."""
  return [f"{t.month}/{t.day}/{t.year} {t.hour % 12 or 12}:{t:%M:%S %p}" for t in times.tolist()]


def _column(values: np.ndarray) -> list[str]:
  return [f"{value:.15g}" for value in values.tolist()]
