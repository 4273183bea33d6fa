"""Channels of days of which a model would clip many values, and statistics of the days that clip few of them."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Shaped

from aim.model.patches import Scale
from data_pipelines.channels.distance import MOST_IMPLAUSIBLE, plausible_range
from data_pipelines.channels.vocabulary import Vocabulary
from data_pipelines.schema import Schema
from data_pipelines.text_files import percentage

MOST_CLIPPED = 0.05  # share of the observed values; of more, a channel is of another range than the training data
FEWEST = 288  # observed values, a day of five-minute steps; the SD of fewer says little


@dataclasses.dataclass(frozen=True)
class ClippedChannel:
  """A channel of days of which a model would clip many values.

  Attributes:
    name: of the channel.
    index: its place in the model's schema.
    share: of the observed values that lie beyond the clip.
    clip: the limit, in SDs of the training data.
    mean, std, low, high: statistics of the plausible observed values, in physical units.
  """

  name: str
  index: int
  share: float
  clip: float
  mean: float
  std: float
  low: float
  high: float

  @property
  def text(self) -> str:
    """Says what the model would clip, such as "glucose (42 % of the values are over 5 SDs from ...)"."""
    beyond = f"{percentage(100 * self.share)} of the values are over {self.clip:g} SDs"
    return f"{self.name} ({beyond} from the training data's mean)"


def clipped_channels(
  values: Shaped[np.ndarray, "days steps channels"], schema: Schema, scale: Scale, vocabulary: Vocabulary
) -> list[ClippedChannel]:
  """The continuous channels of which a model clips more than MOST_CLIPPED of the values.

  Not counted are channels with fewer than FEWEST plausible values, and those of which more than MOST_IMPLAUSIBLE are
  not plausible: they are in another unit, mean something else, or hold codes for missing values.

  Args:
    values: days of the model's schema in physical units, NaN where missing.
    schema: of the model.
    scale: the model's normalisation.
    vocabulary: knows which values are plausible.
  """
  found = []
  for c, channel in enumerate(schema.channels):
    if scale.binary[c] or not np.isfinite(scale.clip[c]):
      continue
    column = values[:, :, c].astype(np.float64)
    observed = column[~np.isnan(column) & ~(scale.zero_is_missing[c] & (column == 0))]
    low, high = plausible_range(channel, schema.minutes_per_step, vocabulary)
    plausible = observed[(observed >= low) & (observed <= high)]
    if len(plausible) < max(FEWEST, (1 - MOST_IMPLAUSIBLE) * len(observed)):
      continue
    share = float(np.mean(np.abs(plausible - scale.mean[c]) > scale.clip[c] * scale.std[c]))
    std = float(plausible.std())
    if share > MOST_CLIPPED and std > 0:
      extremes = float(plausible.mean()), std, float(plausible.min()), float(plausible.max())
      found.append(ClippedChannel(channel.name, c, share, float(scale.clip[c]), *extremes))
  return found
