"""Channels of days of which a model would clip many values, and statistics of the days that clip few of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Shaped

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
    mean, std, low, high: statistics of the plausible observed values, in physical units; NaN if there is none.
    left_alone: why the channel cannot be normalised by these; "" if it can.
  """

  name: str
  index: int
  share: float
  clip: float
  mean: float
  std: float
  low: float
  high: float
  left_alone: str = ""

  @property
  def text(self) -> str:
    """Says what the model would clip, such as "glucose (42 % of the values are over 5 SDs from ...)"."""
    beyond = f"{percentage(100 * self.share)} of the values are over {self.clip:g} SDs"
    why = f"; {self.left_alone}" if self.left_alone else ""
    return f"{self.name} ({beyond} from the training data's mean{why})"


def clipped_channels(
  values: Shaped[np.ndarray, "days steps channels"], schema: Schema, scale: Scale, vocabulary: Vocabulary
) -> list[ClippedChannel]:
  """The continuous channels of which a model clips more than MOST_CLIPPED of the values.

  Only plausible values count. Left alone, for the reason that `left_alone` states, are channels of which the vocabulary
  does not know what is plausible; those of which more than MOST_IMPLAUSIBLE are not plausible (they are in another
  unit, mean something else, or hold codes for missing values; of them all values count); those with fewer than FEWEST
  plausible values; and those of one value.

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
    implausible = 1 - len(plausible) / max(len(observed), 1)
    why, counted = "", plausible
    if not np.isfinite([low, high]).all():
      why = "the vocabulary has no plausible range for it"  # and a single spike may be as large as all values together
    elif implausible > MOST_IMPLAUSIBLE:
      why = (
        f"{percentage(100 * implausible)} are outside {f'{low:g} to {high:g} {channel.unit}'.rstrip()}: check the unit"
      )
      counted = observed
    elif len(plausible) < FEWEST:
      why = f"they are fewer than {FEWEST}"
    elif plausible.min() == plausible.max():
      why = "they are all the same"
    beyond = int((np.abs(counted - scale.mean[c]) > scale.clip[c] * scale.std[c]).sum())
    if beyond > MOST_CLIPPED * len(counted):
      share, clip = beyond / len(counted), float(scale.clip[c])
      found.append(ClippedChannel(channel.name, c, share, clip, *_statistics(plausible), why))
  return found


def told(clipped: Sequence[ClippedChannel]) -> tuple[str, str]:
  """Lists the channels that days can normalise, and those that are left alone; "" if there are none."""
  listed = lambda left_alone: ", ".join(channel.text for channel in clipped if bool(channel.left_alone) == left_alone)
  return listed(False), listed(True)


def _statistics(values: Float64[np.ndarray, " values"]) -> tuple[float, float, float, float]:
  """Mean, SD, lowest and highest of some values; NaN of none."""
  if not len(values):
    return np.nan, np.nan, np.nan, np.nan
  return float(values.mean()), float(values.std()), float(values.min()), float(values.max())
