"""A person's own days as a model sees them: matched to its channels, embedded, and their holes filled."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from aim.inference.clipped_channels import ClippedChannel
from aim.inference.commands import normalised_for
from aim.inference.matched_days import Layout, npz_matching
from aim.inference.people import profile_of_rows
from aim.inference.pretrained import Pretrained
from aim.inference.uncertainty import LEVELS
from aim.report.my_days.own_days import OwnDays
from data_pipelines.channels.distance import Distance, Distances
from data_pipelines.channels.matching import Matching
from data_pipelines.schema import SchemaError
from data_pipelines.text_files import counted


@dataclasses.dataclass(frozen=True)
class FilledDays:
  """Days and what the model makes of them; row d of every array is one day.

  Attributes:
    days: as they were recorded.
    matching: from their channels to the model's.
    embedding: of each day.
    filled: the days with their holes filled; observed values bit for bit. Channels that the model lacks stay as they
      are.
    missing: which values were filled.
    distances: from the model's training data.
    clipped: channels of which the model clips many values.
    normalised: names of the model's channels that were normalised by these days instead, to be filled.
    beside: on which days the model read other days of the person.
    intervals: {level: (low, high)}, of each value; NaN where nothing is known. Empty if the model has no table of its
      errors.
  """

  days: OwnDays
  matching: Matching
  embedding: Float[np.ndarray, "days features"]
  filled: Float[np.ndarray, "days steps channels"]
  missing: Bool[np.ndarray, "days steps channels"]
  distances: list[Distance]
  clipped: list[ClippedChannel]
  normalised: tuple[str, ...]
  beside: Bool[np.ndarray, " days"]
  intervals: dict[float, tuple[Float[np.ndarray, "days steps channels"], Float[np.ndarray, "days steps channels"]]]

  @property
  def channels(self) -> list[int]:
    """Positions of the days' channels that the model has."""
    return [pair.source for pair in self.matching.pairs]


def fill(model: Pretrained, days: OwnDays, statistics: str = "checkpoint") -> FilledDays:
  """Embeds and fills days of any channels.

  Days without a value that the model can read are left out, with a note. Embeddings are the model's own, whatever
  normalises the days to be filled.

  Args:
    model: that embeds and fills.
    days: as they were recorded.
    statistics: see aim.inference.commands.normalised_for.

  Raises:
    MatchingError: none of the channels is one of the model's, or one has a unit that cannot be converted (one line).
    SchemaError: no day has a value that the model can read, or the model has no decoder.
  """
  model.check_has_decoder("report")
  if days.npz:  # which may leave units and kinds to the model
    matching = npz_matching(days.npz, model.schema, model.vocabulary, model.zero_is_missing)
    days = dataclasses.replace(days, schema=matching.source)
  else:
    zeros = model.zero_is_missing
    matching = Matching.between(days.schema, model.schema, model.vocabulary, where=days.origin, zero_is_missing=zeros)
  days = dataclasses.replace(days, values=matching.without_zeros(days.values))
  matched = model.matched_days(matching, days.values, days.origin)
  readable = model.readable_days(matched)
  if not readable.any():
    names = ", ".join(pair.name for pair in matching.pairs)
    raise SchemaError(f"{days.origin}: no day has enough observed values in {names}, the channels that the model has")
  if not readable.all():
    left_out = counted(int((~readable).sum()), "day")
    days = days.where(readable, f"left out {left_out} on which nothing was recorded that the model can read")
    matched = matched[readable]
  embedding = model.embed(matched, progress=True)
  layout, where = Layout(matching), days.origin
  distances = Distances(model.schema, model.scale.mean, model.scale.std, model.vocabulary)
  distances.add(matched)
  model, clipped = normalised_for(model, matched, where, statistics)
  normalised = tuple(channel.name for channel in clipped if statistics == "data" and not channel.left_alone)
  target = layout.model_target(np.isnan(days.values), days.values.shape, where) & np.isnan(matched)
  profile, expected = profile_of_rows(matched, days.participant, days.day, model.context_days, where), matched
  beside = np.zeros(len(matched), bool) if profile is None else profile.known
  if target.any():
    z = model.reconstruct(matched, target, progress=True, profile=profile)
    expected = np.where(target, model.physical(z), matched)
  filled = layout.filled(days.values, expected, where)
  intervals = {}
  for level in LEVELS if model.uncertainty else ():
    low, high = model.interval(expected, ~np.isnan(matched), level, beside)
    intervals[level] = layout.filled(days.values, low, where), layout.filled(days.values, high, where)
  missing = np.isnan(days.values) & ~np.isnan(filled)
  return FilledDays(
    days, matching, embedding, filled, missing, distances.found(), clipped, normalised, beside, intervals
  )
