"""TFDS builder that writes the days of any `Source` as array_record, one example a day, without TensorFlow.

Days are written person by person, shard by shard, in the order of the source (`GeneratorBasedBuilder` would sort a
whole split in memory, and needs TensorFlow past 1 GB; `ShardBasedBuilder` holds a shard in memory). What is learnt on
the way (statistics, labels, events) is gathered by a `Tables`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipelines.day_windows import examples, shards
from data_pipelines.day_windows.duplicates import Seen
from data_pipelines.day_windows.runners import Runner
from data_pipelines.day_windows.tables import Tables
from data_pipelines.source import Source


@dataclasses.dataclass(eq=False, kw_only=True)
class DayWindowsConfig(tfds.core.BuilderConfig):
  """One dataset: its name, the source of its days, the people of each split, and what writes its shards."""

  source: Source = dataclasses.field(repr=False)
  people: Mapping[str, Sequence[str]] = dataclasses.field(repr=False)
  tables: Tables = dataclasses.field(repr=False)
  seen: Seen | None = dataclasses.field(repr=False)  # None: two people may have the same day
  runner: Runner = dataclasses.field(repr=False)


class Builder(tfds.core.ShardBasedBuilder):
  """One example a day: values, participant, date, day, weekday, and cause where the source knows it."""

  VERSION = tfds.core.Version("1.0.0")
  builder_config: DayWindowsConfig

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="Day windows of wearable sensors, with holes.",
      features=examples.features(self.builder_config.source.schema, self._has_cause),
      disable_shuffling=True,
    )

  @functools.cached_property
  def _has_cause(self) -> bool:
    source = self.builder_config.source
    days = source.person(source.participants[0]).days
    return bool(days) and days[0].cause is not None

  def _shard_iterators_per_split(self, dl_manager: Any) -> Any:
    raise NotImplementedError("shards are written by _download_and_prepare")

  def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
    config = self.builder_config
    template = lambda split, i, of: self._get_filename_template(split).sharded_filepath(shard_index=i, num_shards=of)
    planned = shards.plan(config.source, config.people, template)
    written: dict[str, list[tuple[int, int]]] = {shard.split: [] for shard in planned}
    # Hidden where standard error is not a terminal.
    with tqdm(total=config.source.n_days, desc=f"building {config.name}", unit="day", disable=None) as progress:
      done = config.runner(shards.Work(config.source, self._has_cause), planned, progress.update)
      for shard, each in zip(planned, done, strict=True):
        config.tables.merge(each.tables, config.seen)
        written[shard.split].append((each.days, each.size))
    self.info.set_splits(tfds.core.SplitDict([self._split(name, found) for name, found in written.items()]))

  def _split(self, name: str, written: Sequence[tuple[int, int]]) -> tfds.core.SplitInfo:
    return tfds.core.SplitInfo(
      name=name,
      shard_lengths=[days for days, _ in written],
      num_bytes=sum(size for _, size in written),
      filename_template=self._get_filename_template(name),
    )
