"""The clock and the ordered channels of a day window, and how a missing minute is written down.

A day window is a float32 array [steps, channels] in physical units. A minute that the sensor lost is NaN in its
channel, from the source file to the arrays that the loader yields; a value is *observed* where the sensor gave a number
and its absence is *inherited* where it did not. No sentinel, zero or interpolated number ever stands for a missing one.

A schema is stored beside every dataset (schema.json) and inside every checkpoint. Nothing in this project assumes a
channel name, a number of channels or 1,440 minutes: everything is read from the schema.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32

from data_pipelines.errors import SchemaError, is_number, is_whole
from data_pipelines.text_files import check_names, json_text, read_json, unprintable

MINUTES_PER_DAY = 1440


@dataclasses.dataclass(frozen=True)
class Channel:
  """One signal of a day window.

  Attributes:
    name: unique within the schema.
    unit: physical unit, such as "bpm"; empty for a ratio.
    sensor: the sensor that the channel comes from (PPG, ACC, ...); channels of one sensor fail together.
    kind: "continuous" (z-scored, squared error) or "binary" (left as 0 or 1, cross-entropy).
    clip: largest absolute z-score of a continuous channel, in standard deviations; the model sees values beyond it cut
      off there.
  """

  name: str
  unit: str = ""
  sensor: str = ""
  kind: Literal["continuous", "binary"] = "continuous"
  clip: float = 5.0

  def __post_init__(self) -> None:
    for field in ("name", "unit", "sensor"):
      if not isinstance(getattr(self, field), str):
        raise SchemaError(f"schema: channel {self.name!r}: {field} is {getattr(self, field)!r}, expected text")
    check_names([self.name], "channel", "schema")
    for field, text in (("name", self.name), ("unit", self.unit), ("sensor", self.sensor)):
      if unprintable(text):
        raise SchemaError(
          f"schema: channel {self.name!r}: {field} is {text!r}, expected text without control characters"
        )
    if self.kind not in ("continuous", "binary"):
      raise SchemaError(f"schema: channel {self.name!r}: kind is {self.kind!r}, expected 'continuous' or 'binary'")
    if not is_number(self.clip) or not self.clip > 0:
      raise SchemaError(f"schema: channel {self.name!r}: clip is {self.clip!r}, expected a positive number of SDs")


@dataclasses.dataclass(frozen=True)
class Schema:
  """The clock and the channels of a dataset's day windows, which are float32 [steps, channels] with NaN for missing.

  Attributes:
    minutes_per_step: length of a step; a divisor of 1,440.
    channels: in the order of the arrays' last axis.

  Raises:
    SchemaError: the clock does not divide a day, there are no channels, or two have one name.
  """

  minutes_per_step: int
  channels: tuple[Channel, ...]

  def __post_init__(self) -> None:
    if not is_whole(self.minutes_per_step) or self.minutes_per_step < 1 or MINUTES_PER_DAY % self.minutes_per_step:
      raise SchemaError(
        f"schema: minutes_per_step is {self.minutes_per_step!r}, expected a divisor of {MINUTES_PER_DAY}"
      )
    if others := [channel for channel in self.channels if not isinstance(channel, Channel)]:
      raise SchemaError(f"schema: {others[0]!r} is no Channel")
    if not self.channels:
      raise SchemaError("schema: no channels")
    names = [channel.name for channel in self.channels]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
      raise SchemaError(f"schema: channel {repeated[0]!r} appears more than once")
    check_names(names, "channel", "schema")

  @property
  def steps(self) -> int:
    """Number of steps per day."""
    return MINUTES_PER_DAY // self.minutes_per_step

  @property
  def names(self) -> tuple[str, ...]:
    """The channels' names, in order."""
    return tuple(channel.name for channel in self.channels)

  @property
  def binary(self) -> Bool[np.ndarray, " channels"]:
    """True where the channel is binary."""
    return np.array([channel.kind == "binary" for channel in self.channels])

  @property
  def clips(self) -> Float32[np.ndarray, " channels"]:
    """The channels' largest absolute z-scores."""
    return np.array([channel.clip for channel in self.channels], np.float32)

  def index(self, name: str) -> int:
    """Position of channel `name`.

    Raises:
      SchemaError: there is no such channel.
    """
    if name not in self.names:
      raise SchemaError(f"schema: unknown channel {name!r}; channels are {', '.join(self.names)}")
    return self.names.index(name)

  def to_dict(self) -> dict[str, Any]:
    """The schema as JSON-able data; `from_dict` reads it back."""
    channels = [dataclasses.asdict(channel) for channel in self.channels]
    return {"minutes_per_step": self.minutes_per_step, "channels": channels}

  @classmethod
  def from_dict(cls, raw: Mapping[str, Any]) -> Schema:
    """Rebuilds a schema from `to_dict` data.

    Raises:
      SchemaError: a key is missing or unknown, or a value is out of range.
    """
    try:
      channels = tuple(Channel(**channel) for channel in raw["channels"])
      return cls(minutes_per_step=raw["minutes_per_step"], channels=channels)
    except SchemaError:
      raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
      raise SchemaError(f"schema: malformed: {error}") from None

  def save(self, path: str | pathlib.Path) -> None:
    """Writes the schema as JSON."""
    pathlib.Path(path).write_text(json_text(self.to_dict(), indent=2) + "\n")

  @classmethod
  def load(cls, path: str | pathlib.Path) -> Schema:
    """Reads a schema that `save` wrote.

    Raises:
      SchemaError: the file is absent, is not JSON, or holds no valid schema.
    """
    raw = read_json(path)
    try:
      return cls.from_dict(raw)
    except SchemaError as error:
      raise SchemaError(f"{path}: {error}") from None

  def check(self, values: Float[np.ndarray, "*days steps channels"], where: str) -> None:
    """Checks that an array holds day windows of this schema.

    Args:
      values: floating point [..., steps, channels]; every value must be finite or NaN (missing), and binary channels
        may hold only 0, 1 and NaN.
      where: names the array in the error message.

    Raises:
      SchemaError: the array's type, shape or a value does not fit.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
      actual = getattr(values, "dtype", type(values).__name__)
      raise SchemaError(f"{where}: values are {actual}, expected floating point with NaN for missing")
    expected = (self.steps, len(self.channels))
    if values.ndim < 2 or values.shape[-2:] != expected:
      raise SchemaError(f"{where}: values have shape {values.shape}, expected [..., {expected[0]}, {expected[1]}]")
    infinite = np.isinf(values)
    if infinite.any():
      first = np.argwhere(infinite)[0]
      row = f" row {first[0]}" if values.ndim > 2 else ""
      raise SchemaError(f"{where}:{row} step {first[-2]} channel {self.names[first[-1]]!r} is infinite")
    for c in np.flatnonzero(self.binary):
      channel_values = values[..., c]
      invalid = ~(np.isnan(channel_values) | (channel_values == 0) | (channel_values == 1))
      if invalid.any():
        first = np.argwhere(invalid)[0]
        row = f" row {first[0]}" if values.ndim > 2 else ""
        example = channel_values[tuple(first)]
        raise SchemaError(
          f"{where}:{row} step {first[-1]} binary channel {self.names[c]!r} holds {example}, expected 0, 1 or NaN"
        )

  def difference(self, other: Schema) -> str | None:
    """Describes in one line how `other`, the schema that was found, first differs from this one, the expected schema.

    Returns:
      The description, or None if the two are equal.
    """
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
