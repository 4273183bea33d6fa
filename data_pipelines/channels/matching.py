"""Data of any channels in the terms of another schema: matched by name and unit, on its clock, in its order.

This is how a model is used on data of other channels, and how data sets of several kinds are mixed. What is done is
reported in lines; nothing is guessed, and what cannot be converted is refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped

from data_pipelines.channels import resampling, units
from data_pipelines.channels.vocabulary import Entry, Vocabulary
from data_pipelines.channels.zeros import without_zeros
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema


class MatchingError(SchemaError):
  """Channels that cannot be matched: of other kinds or units, ambiguous, or none at all."""


@dataclasses.dataclass(frozen=True)
class Pair:
  """A channel of the data and the channel of the target schema that it is.

  Attributes:
    source, target: positions in the schemas.
    name, target_name: their names there.
    unit, target_unit: what their values are in, declared or by the vocabulary.
    amount: the unit of what a step counts, if the rule is "sum"; the other two may be rates of it.
    rule: how shorter steps become a longer one.
    is_known: whether the vocabulary has the channel.
    zero_is_missing: whether a 0 of the data is a missing value.
  """

  source: int
  target: int
  name: str
  target_name: str
  unit: str
  target_unit: str
  amount: str
  rule: str
  is_known: bool
  zero_is_missing: bool = False

  def forward(
    self, values: Float[np.ndarray, "days _"], minutes: int, to: int, min_share: float
  ) -> Float[np.ndarray, "days _"]:
    """The channel's values on the target's clock, in its unit."""
    values = without_zeros(values, self.zero_is_missing)
    values = self._converted(values, self.unit, self._unit_between, minutes)
    values = resampling.resample(values, minutes, to, self.rule, min_share)
    return self._converted(values, self._unit_between, self.target_unit, to)

  def backward(self, values: Float[np.ndarray, "days _"], minutes: int, to: int) -> Float[np.ndarray, "days _"]:
    """The target channel's values on the data's clock (`to`), in its unit."""
    values = self._converted(values, self.target_unit, self._unit_between, minutes)
    values = resampling.spread(values, minutes, to, self.rule)
    return self._converted(values, self._unit_between, self.unit, to)

  @property
  def _unit_between(self) -> str:
    """The unit in which values change their clock; amounts rather than rates, which are no sums."""
    return self.amount if self.rule == "sum" else self.unit

  def _converted(
    self, values: Float[np.ndarray, "days _"], unit: str, to: str, minutes: int
  ) -> Float[np.ndarray, "days _"]:
    if unit == to:
      return values
    where = f"channel {self.name!r}"
    if self.rule == "sum":
      return units.convert_amounts(values, unit, to, minutes, where)
    return units.convert(values, unit, to, where)


@dataclasses.dataclass(frozen=True)
class Matching:
  """Conversion of data from one schema to another; `Matching.between` makes one.

  Attributes:
    source: schema of the data.
    target: schema that they are brought into.
    pairs: the channels that both have, in the order of the data's.
    undeclared: names of the data's channels whose unit was taken from the vocabulary or the target.
    min_share: share of a longer step's minutes that have to be observed (see resampling.resample).
  """

  source: Schema
  target: Schema
  pairs: tuple[Pair, ...]
  undeclared: tuple[str, ...] = ()
  min_share: float = resampling.MIN_SHARE

  @classmethod
  def between(
    cls,
    source: Schema,
    target: Schema,
    vocabulary: Vocabulary,
    min_share: float = resampling.MIN_SHARE,
    where: str = "channels",
    zero_is_missing: Collection[str] = (),
  ) -> Matching:
    """Matches the channels of two schemas.

    A channel of the target is the channel of the same name or, if there is none, the one that the vocabulary knows as
    the same by its name or an alias. A channel that declares no unit has that of the target's channel of the same name
    or, if it goes by another, the vocabulary's for its name.

    Args:
      source: schema of the data.
      target: schema that they are to be brought into.
      vocabulary: names, units and rules of channels.
      min_share: see resampling.resample.
      where: begins every message, for example a file.
      zero_is_missing: names of channels of the target in which a 0 is a missing value.

    Raises:
      MatchingError: two channels of the data are one of the target's; a unit or a kind is not the target's; or no
        channel is in both. The message names the channels.
    """
    pairs, undeclared = [], []
    for t, channel in enumerate(target.channels):
      s = _counterpart(channel, source, target, vocabulary, where)
      if s is not None:
        entry = vocabulary.find(channel.name)
        pair = _pair(source.channels[s], channel, (s, t), entry, where)
        pairs.append(dataclasses.replace(pair, zero_is_missing=channel.name in zero_is_missing))
        ours = source.channels[s]
        if not ours.unit and pairs[-1].unit and (channel.unit or ours.name != channel.name):
          undeclared.append(ours.name)
    if not pairs:
      raise MatchingError(
        f"{where}: none of the channels {', '.join(source.names)} is one of {', '.join(target.names)}, by name or by "
        "an alias of the vocabulary of channels"
      )
    in_order = tuple(sorted(pairs, key=lambda pair: pair.source))
    return cls(source, target, in_order, tuple(sorted(undeclared, key=source.index)), min_share)

  @property
  def is_identity(self) -> bool:
    """True if data of the source are data of the target as they are: the same channels in the same order and units."""
    return not self.zero_is_missing and self.keeps_layout

  @property
  def keeps_layout(self) -> bool:
    """True if the values of the source are those of the target, but for zeros that are missing values."""
    return (
      self.source.minutes_per_step == self.target.minutes_per_step
      and len(self.pairs) == len(self.source.channels) == len(self.target.channels)
      and all(pair.source == pair.target and pair.unit == pair.target_unit for pair in self.pairs)
    )

  @property
  def zero_is_missing(self) -> tuple[str, ...]:
    """Names of the target's channels of which a 0 is a missing value."""
    return tuple(pair.target_name for pair in self.pairs if pair.zero_is_missing)

  def without_zeros(self, values: Shaped[np.ndarray, "*days _ _"]) -> Shaped[np.ndarray, "*days _ _"]:
    """Days of the source with NaN for each 0 that is a missing value."""
    channels = np.zeros(len(self.source.channels), bool)
    channels[[pair.source for pair in self.pairs if pair.zero_is_missing]] = True
    return without_zeros(values, channels)

  def missing(self, values: Shaped[np.ndarray, "*days _ _"]) -> Bool[np.ndarray, "*days _ _"]:
    """True where days of the source have no value."""
    return np.isnan(self.without_zeros(values))

  @property
  def absent(self) -> tuple[str, ...]:
    """Names of the target's channels that the data lack."""
    present = {pair.target for pair in self.pairs}
    return tuple(name for t, name in enumerate(self.target.names) if t not in present)

  @property
  def extra(self) -> tuple[str, ...]:
    """Names of the data's channels that the target lacks."""
    used = {pair.source for pair in self.pairs}
    return tuple(name for s, name in enumerate(self.source.names) if s not in used)

  @property
  def present(self) -> Bool[np.ndarray, " target_channels"]:
    """True for the channels of the target that the data have."""
    mask = np.zeros(len(self.target.channels), bool)
    mask[[pair.target for pair in self.pairs]] = True
    return mask

  def apply(self, values: Float[np.ndarray, "days _ _"], where: str = "values") -> Float[np.ndarray, "days _ _"]:
    """Days of the source as days of the target.

    Args:
      values: [days, steps, channels] of the source, NaN where missing.
      where: begins the message.

    Returns:
      [days, target steps, target channels] of the same dtype, NaN where missing; a channel that the data lack is
      missing as a whole. A channel on the same clock in the same unit is copied bit for bit.

    Raises:
      SchemaError: the values are not of the source's schema, a binary channel holds something else than 0 and 1, or a
        converted value is beyond the dtype.
    """
    self.source.check(values, where)
    result = np.full((len(values), self.target.steps, len(self.target.channels)), np.nan, values.dtype)
    minutes, to = self.source.minutes_per_step, self.target.minutes_per_step
    for pair in self.pairs:
      column = values[:, :, pair.source]
      with np.errstate(over="ignore"):  # refused in the next lines
        result[:, :, pair.target] = pair.forward(column, minutes, to, self.min_share)
      if np.isinf(result[:, :, pair.target]).any():
        raise SchemaError(
          f"{where}: channel {pair.name!r} holds up to {np.nanmax(np.abs(column)):g} {pair.unit}, which is beyond "
          f"{values.dtype} in {pair.target_unit}"
        )
    return result

  def back(
    self, filled: Float[np.ndarray, "days _ _"], observed: Shaped[np.ndarray, "days _ _"] | None = None
  ) -> Shaped[np.ndarray, "days _ _"]:
    """Days of the target, without missing values, as days of the source.

    Args:
      filled: [days, target steps, target channels].
      observed: the days of the source that were reconstructed; what is not missing in them is returned bit for bit.

    Returns:
      [days, steps, channels] of the source, of the dtype of `observed` or else of `filled`. Channels that the target
      lacks are those of `observed`, NaN where missing.
    """
    shape = (len(filled), self.source.steps, len(self.source.channels))
    result = np.full(shape, np.nan, filled.dtype) if observed is None else observed.copy()
    minutes, to = self.target.minutes_per_step, self.source.minutes_per_step
    missing = self.missing(result)
    for pair in self.pairs:
      column = pair.backward(filled[:, :, pair.target], minutes, to).astype(result.dtype)
      result[:, :, pair.source] = np.where(missing[:, :, pair.source], column, result[:, :, pair.source])
    return result

  def targets(self, mask: Bool[np.ndarray, "days _ _"]) -> Bool[np.ndarray, "days _ _"]:
    """Mask of the target's values to reconstruct, for `back` to fill the source where `mask` is True."""
    result = np.zeros((len(mask), self.target.steps, len(self.target.channels)), bool)
    minutes, to = self.source.minutes_per_step, self.target.minutes_per_step
    for pair in self.pairs:
      result[:, :, pair.target] = resampling.resample_mask(mask[:, :, pair.source], minutes, to)
    return result

  def told(self) -> list[str]:
    """Describes the conversion, a line each: names, units, channels that are missing or left out, and the clock."""
    renamed = [f"{pair.name} is {pair.target_name}" for pair in self.pairs if pair.name != pair.target_name]
    converted = [
      f"{pair.name} from {pair.unit} to {pair.target_unit}" for pair in self.pairs if pair.unit != pair.target_unit
    ]
    assumed = [f"{pair.name} in {pair.unit}" for pair in self.pairs if pair.name in self.undeclared]
    unknown = [pair.name for pair in self.pairs if not pair.is_known]
    facts: Mapping[str, Sequence[str]] = {
      "the same under another name": renamed,
      "converted": converted,
      "no unit declared, taken to be": assumed,
      "not in the vocabulary, matched by name alone": unknown,
      "missing where they are 0": self.zero_is_missing,
      "absent, so treated as missing": self.absent,
      "left out, because they are no channels of the target": self.extra,
    }
    return [f"{fact}: {', '.join(names)}" for fact, names in facts.items() if names] + self._clock_lines()

  def _clock_lines(self) -> list[str]:
    minutes, to = self.source.minutes_per_step, self.target.minutes_per_step
    if minutes == to:
      return []
    if minutes > to:
      return [f"steps of {minutes} min on a clock of {to} min: each value stands at the first {to} min of its step"]
    rules = ", ".join(f"{pair.name} {pair.rule}" for pair in self.pairs)
    return [f"steps of {minutes} min become {to} min where {100 * self.min_share:g} % are observed: {rules}"]


def _counterpart(channel: Channel, source: Schema, target: Schema, vocabulary: Vocabulary, where: str) -> int | None:
  """Position in the source of the channel that is `channel` of the target."""
  entry = vocabulary.find(channel.name)
  is_same = lambda name: entry is not None and name not in target.names and vocabulary.find(name) is entry
  names = [name for name in source.names if name == channel.name or is_same(name)]
  if len(names) > 1:
    common = entry.name if entry else channel.name
    raise MatchingError(f"{where}: {' and '.join(map(repr, names))} are both {common!r}; leave all but one out")
  return source.names.index(names[0]) if names else None


def _pair(ours: Channel, theirs: Channel, positions: tuple[int, int], entry: Entry | None, where: str) -> Pair:
  """The pair of two channels, once their kinds and units are known to fit."""
  if ours.kind != theirs.kind:
    raise MatchingError(
      f"{where}: channel {ours.name!r} is {ours.kind}, expected {theirs.kind}, as {theirs.name!r} is in the target; "
      "leave it out or give it another name"
    )
  rule = entry.rule if entry else "last" if theirs.kind == "binary" else "mean"
  # A channel of the target's very name declares what the target does, as in npz files that are read with a schema.
  same = theirs.unit if ours.name == theirs.name else ""
  unit = ours.unit or same or (entry.unit_of(ours.name) if entry else theirs.unit)
  target_unit = theirs.unit or (entry.unit_of(theirs.name) if entry else ours.unit)
  amount = entry.unit if entry and rule == "sum" else unit
  pair = Pair(*positions, ours.name, theirs.name, unit, target_unit, amount, rule, entry is not None)
  try:
    pair.forward(np.zeros((1, 1)), 1440, 1440, 0)
  except SchemaError as error:
    raise MatchingError(f"{where}: {error}") from None
  return pair


def declared_schema(
  names: Sequence[str],
  minutes_per_step: int,
  target: Schema,
  vocabulary: Vocabulary,
  declared_units: Mapping[str, str] | None = None,
  where: str = "channels",
) -> Schema:
  """The schema of data that say no more than the names of their channels and perhaps some units.

  Args:
    names: of the channels, in order.
    minutes_per_step: of the data.
    target: where a channel of the same meaning is binary, the data's is too; `Matching.apply` checks its values.
    vocabulary: names of channels.
    declared_units: {name: unit} of some of the channels.
    where: begins every message.

  Raises:
    SchemaError: a name is repeated or empty, a unit is given for another channel, or the clock does not divide a day.
  """
  given = dict(declared_units or {})
  for name in given:
    if name not in names:
      raise MatchingError(f"{where}: unit {given[name]!r} is of channel {name!r}; channels are {', '.join(names)}")
  plain = Schema(minutes_per_step, tuple(Channel(name, given.get(name, "")) for name in names))
  kinds: dict[str, Channel] = {}
  for channel in target.channels:
    position = _counterpart(channel, plain, target, vocabulary, where)
    if position is not None:
      kinds[names[position]] = channel
  channels = [
    dataclasses.replace(channel, kind=kinds[channel.name].kind, sensor=kinds[channel.name].sensor)
    if channel.name in kinds
    else channel
    for channel in plain.channels
  ]
  return Schema(minutes_per_step, tuple(channels))
