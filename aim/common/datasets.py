"""The dataset that config.data names, or the mix of several."""

from __future__ import annotations

import ml_collections

from aim.common.config_files import ConfigError
from data_pipelines.channels import vocabulary
from data_pipelines.channels.matched_dataset import matched
from data_pipelines.channels.mixed_dataset import MixedDataset, open_mix
from data_pipelines.dataset import Dataset
from data_pipelines.schema import MINUTES_PER_DAY


def is_named(data: ml_collections.ConfigDict) -> bool:
  """True if config.data names datasets that are built; without names it stands for the simulated cohort."""
  return bool(data.name or data.mix)


def open_named(data: ml_collections.ConfigDict) -> Dataset:
  """Opens config.data.name, or config.data.mix.

  Raises:
    ConfigError: both are given, a dataset is twice in the mix, or keys are given that only a mix has.
    DatasetError: there is no such dataset.
    UserError: the datasets cannot be mixed (data_pipelines/channels/mixed_dataset.py).
  """
  if not data.mix:
    if data.minutes_per_step:
      raise ConfigError(
        f"config.data.minutes_per_step is {data.minutes_per_step}, expected 0 without config.data.mix; for one dataset "
        f"on another clock: --config.data.mix=\"(('{data.name or 'NAME'}',1.0),)\" --config.data.name="
      )
    return as_configured(Dataset.open(data.dir, data.name), data)
  if data.name:
    raise ConfigError(
      f"config.data.name is {data.name!r} and config.data.mix names datasets too; leave one of them out: "
      "--config.data.name= or --config.data.mix='()'"
    )
  names = [name for name, _ in data.mix]
  repeated = [name for name in names if names.count(name) > 1]
  if repeated:
    raise ConfigError(f"config.data.mix names {repeated[0]!r} more than once, expected one weight per dataset")
  if data.minutes_per_step and MINUTES_PER_DAY % data.minutes_per_step:
    raise ConfigError(
      f"config.data.minutes_per_step is {data.minutes_per_step}, expected 0 or a divisor of {MINUTES_PER_DAY}"
    )
  known = vocabulary.load(data.vocabulary)
  return open_mix(data.dir, dict(data.mix), known, data.minutes_per_step, data.zero_is_missing)


def as_configured(dataset: Dataset, data: ml_collections.ConfigDict) -> Dataset:
  """A dataset in which zeros of the channels of config.data.zero_is_missing are missing; itself if there are none."""
  return matched(dataset, dataset.schema, vocabulary.load(data.vocabulary), data.zero_is_missing)


def told(dataset: Dataset, decoder_tokens: str) -> list[str]:
  """Lines that describe a mix and the cost of its absent channels; none for a dataset that is no mix.

  Args:
    dataset: what is trained on.
    decoder_tokens: config.model.decoder.tokens.
  """
  if not isinstance(dataset, MixedDataset):
    return []
  lines = list(dataset.told())
  if decoder_tokens == "all" and dataset.present_share < 1:
    lines.append(
      f"note: a day of this mix has {100 * dataset.present_share:.0f} % of the channels, and the decoder computes all "
      "of them; --config.model.decoder.tokens=refined (or present) leaves absent ones out"
    )
  return lines
