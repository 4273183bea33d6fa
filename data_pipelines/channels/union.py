"""The schema that several schemas have in common: every channel that one of them has, once."""

from __future__ import annotations

from collections.abc import Mapping

from data_pipelines.channels.matching import MatchingError
from data_pipelines.channels.vocabulary import Vocabulary
from data_pipelines.schema import Channel, Schema


def union_schema(schemas: Mapping[str, Schema], vocabulary: Vocabulary, minutes_per_step: int = 0) -> Schema:
  """All channels of some datasets, whatever the order of these.

  A channel that the vocabulary knows by its name or an alias is the vocabulary's: its name, unit, kind and clip. Any
  other is that of the first dataset, by name, that has it, in the first unit that is declared. Channels are in the
  order of their places in the vocabulary; those without a place follow by name.

  Args:
    schemas: {name of a dataset: its schema}, at least one.
    vocabulary: names, units and places of channels.
    minutes_per_step: of the result; 0 for that of the dataset with the longest steps.

  Raises:
    MatchingError: two channels of one dataset are the same.
  """
  places: dict[str, int] = {}
  channels: dict[str, Channel] = {}
  for dataset in sorted(schemas):
    own: dict[str, str] = {}
    for channel in schemas[dataset].channels:
      entry = vocabulary.find(channel.name)
      common = entry.channel if entry else channel
      if common.name in own:
        raise MatchingError(
          f"dataset {dataset!r}: {own[common.name]!r} and {channel.name!r} are both {common.name!r}; build it with one "
          "of them alone"
        )
      own[common.name] = channel.name
      if entry:
        places[common.name] = entry.place
      first = channels.setdefault(common.name, common)
      if not first.unit and common.unit:
        channels[common.name] = Channel(first.name, common.unit, first.sensor, first.kind, first.clip)
  after_all = max(places.values(), default=0) + 1
  names = sorted(channels, key=lambda name: (places.get(name, after_all), name))
  minutes = minutes_per_step or max(schema.minutes_per_step for schema in schemas.values())
  return Schema(minutes, tuple(channels[name] for name in names))
