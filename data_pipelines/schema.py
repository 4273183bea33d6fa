"""What one day window holds: its clock and its ordered channels.

A schema is stored beside every dataset (schema.json) and inside every checkpoint. Nothing in this project assumes a
channel name, a channel count or 1,440 minutes: all of it is read from here.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from data_pipelines.errors import SchemaError

MINUTES_PER_DAY = 1440


@dataclasses.dataclass(frozen=True)
class Channel:
  """One signal of a day window.

  Attributes:
    name: unique within the schema.
    unit: physical unit, such as "bpm"; empty for a ratio.
    sensor: the sensor it comes from (PPG, ACC, ...); channels of a sensor fail together.
    kind: "continuous" (z-scored, squared error) or "binary" (kept 0/1, cross-entropy).
    clip: bound on the z-score of a continuous channel, in standard deviations.
  """

  name: str
  unit: str = ""
  sensor: str = ""
  kind: Literal["continuous", "binary"] = "continuous"
  clip: float = 5.0

  def __post_init__(self) -> None:
    if not self.name:
      raise SchemaError("schema: a channel has an empty name")
    if self.kind not in ("continuous", "binary"):
      raise SchemaError(f"schema: channel {self.name!r}: kind is {self.kind!r}, expected 'continuous' or 'binary'")
    if not self.clip > 0:
      raise SchemaError(f"schema: channel {self.name!r}: clip is {self.clip}, expected a positive number of SDs")


@dataclasses.dataclass(frozen=True)
class Schema:
  """The clock and channels of a dataset's day windows, values float32 [steps, channels]."""

  minutes_per_step: int
  channels: tuple[Channel, ...]

  def __post_init__(self) -> None:
    if self.minutes_per_step < 1 or MINUTES_PER_DAY % self.minutes_per_step:
      raise SchemaError(f"schema: minutes_per_step is {self.minutes_per_step}, expected a divisor of {MINUTES_PER_DAY}")
    if not self.channels:
      raise SchemaError("schema: no channels")
    names = [channel.name for channel in self.channels]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
      raise SchemaError(f"schema: channel {repeated[0]!r} appears more than once")

  @property
  def steps(self) -> int:
    """Steps a day."""
    return MINUTES_PER_DAY // self.minutes_per_step

  @property
  def names(self) -> tuple[str, ...]:
    return tuple(channel.name for channel in self.channels)

  @property
  def binary(self) -> np.ndarray:
    """bool [channels]: True where the channel is binary."""
    return np.array([channel.kind == "binary" for channel in self.channels])

  @property
  def clips(self) -> np.ndarray:
    """float32 [channels]: bound on the z-score."""
    return np.array([channel.clip for channel in self.channels], np.float32)

  def index(self, name: str) -> int:
    """Position of channel `name`; SchemaError if there is none."""
    if name not in self.names:
      raise SchemaError(f"schema: unknown channel {name!r}; channels are {', '.join(self.names)}")
    return self.names.index(name)

  def to_dict(self) -> dict[str, Any]:
    channels = [dataclasses.asdict(channel) for channel in self.channels]
    return {"minutes_per_step": self.minutes_per_step, "channels": channels}

  @classmethod
  def from_dict(cls, raw: Mapping[str, Any]) -> Schema:
    try:
      channels = tuple(Channel(**channel) for channel in raw["channels"])
      return cls(minutes_per_step=int(raw["minutes_per_step"]), channels=channels)
    except (KeyError, TypeError) as error:
      raise SchemaError(f"schema: malformed: {error}") from None

  def save(self, path: str | pathlib.Path) -> None:
    pathlib.Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n")

  @classmethod
  def load(cls, path: str | pathlib.Path) -> Schema:
    try:
      return cls.from_dict(json.loads(pathlib.Path(path).read_text()))
    except FileNotFoundError:
      raise SchemaError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
      raise SchemaError(f"{path}: not JSON: {error}") from None

  def check(self, values: np.ndarray, where: str) -> None:
    """Raises SchemaError naming `where` unless values is floating [..., steps, channels], finite or NaN, binary 0/1."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
      found = getattr(values, "dtype", type(values).__name__)
      raise SchemaError(f"{where}: values are {found}, expected floating point with NaN for missing")
    expected = (self.steps, len(self.channels))
    if values.ndim < 2 or values.shape[-2:] != expected:
      raise SchemaError(f"{where}: values have shape {values.shape}, expected [..., {expected[0]}, {expected[1]}]")
    infinite = np.isinf(values)
    if infinite.any():
      place = np.argwhere(infinite)[0]
      row = f" row {place[0]}" if values.ndim > 2 else ""
      raise SchemaError(f"{where}:{row} step {place[-2]} channel {self.names[place[-1]]!r} is infinite")
    for c in np.flatnonzero(self.binary):
      odd = ~(np.isnan(values[..., c]) | (values[..., c] == 0) | (values[..., c] == 1))
      if odd.any():
        found = values[..., c][odd][0]
        raise SchemaError(f"{where}: binary channel {self.names[c]!r} holds {found}, expected 0, 1 or NaN")

  def difference(self, other: Schema) -> str | None:
    """One line telling the first difference from `other` (found there), or None if the two are equal."""
    if self.minutes_per_step != other.minutes_per_step:
      return f"minutes_per_step is {other.minutes_per_step}, expected {self.minutes_per_step}"
    if self.names != other.names:
      missing = [name for name in self.names if name not in other.names]
      unknown = [name for name in other.names if name not in self.names]
      parts = [f"missing channels {missing}"] * bool(missing) + [f"unknown channels {unknown}"] * bool(unknown)
      return "; ".join(parts) or f"channels are in order {list(other.names)}, expected {list(self.names)}"
    for ours, theirs in zip(self.channels, other.channels, strict=True):
      if ours != theirs:
        return f"channel {ours.name!r} is {theirs}, expected {ours}"
    return None
