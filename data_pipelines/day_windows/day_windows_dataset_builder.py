"""TFDS builder that writes the days of any `Source` as array_record, one example per day, without TensorFlow.

Days are written person by person and shard by shard, in the order of the source. TFDS's own builders do not fit:
`GeneratorBasedBuilder` sorts a whole split in memory and needs TensorFlow beyond 1 GB, and `ShardBasedBuilder` holds a
shard in memory. What is learnt about the days while they are written (statistics, labels, events) is collected in
`Tables`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipelines.day_windows import examples, shards
from data_pipelines.day_windows.duplicates import DuplicateDetector
from data_pipelines.day_windows.tables import Tables
from data_pipelines.digests import FileDigest
from data_pipelines.runners import Runner
from data_pipelines.source import Source


@dataclasses.dataclass(eq=False, kw_only=True)
class DayWindowsConfig(tfds.core.BuilderConfig):
  """A dataset to build: the name that TFDS gives it, and everything that the builder needs.

  Attributes:
    source: the days.
    people: ids of the people in each split.
    tables: collects the tables of the dataset; the caller writes them.
    digests: collects the digests of the shards, by file name.
    duplicates: detects two people with an identical day; None to allow that.
    runner: writes the shards.
  """

  source: Source = dataclasses.field(repr=False)
  people: Mapping[str, Sequence[str]] = dataclasses.field(repr=False)
  tables: Tables = dataclasses.field(repr=False)
  digests: dict[str, FileDigest] = dataclasses.field(repr=False, default_factory=dict)
  duplicates: DuplicateDetector | None = dataclasses.field(repr=False)
  runner: Runner = dataclasses.field(repr=False)


class Builder(tfds.core.ShardBasedBuilder):
  """One example per day: values, participant, date, day, weekday, and cause if the source knows it."""

  VERSION = tfds.core.Version("1.0.0")
  builder_config: DayWindowsConfig

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="Day windows of wearable sensors, with missing values.",
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
    write_shard = shards.ShardWriter(config.source, self._has_cause)
    # disable=None hides the bar where standard error is not a terminal.
    # Closed before anything is deleted: a process may still be writing when a shard is refused.
    with (
      tqdm(total=config.source.n_days, desc=f"building {config.name}", unit="day", disable=None) as progress,
      contextlib.closing(config.runner(write_shard, planned, progress.update)) as outcomes,
    ):
      for shard, outcome in zip(planned, outcomes, strict=True):
        config.tables.merge(outcome.tables, config.duplicates)
        written[shard.split].append((outcome.days, outcome.digest.size))
        config.digests[os.path.basename(shard.path)] = outcome.digest
    self.info.set_splits(tfds.core.SplitDict([self._split(name, files) for name, files in written.items()]))

  def _split(self, name: str, files: Sequence[tuple[int, int]]) -> tfds.core.SplitInfo:
    """TFDS's record of a split, from the (days, bytes) of its files."""
    return tfds.core.SplitInfo(
      name=name,
      shard_lengths=[days for days, _ in files],
      num_bytes=sum(size for _, size in files),
      filename_template=self._get_filename_template(name),
    )
