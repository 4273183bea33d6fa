"""Days of other channels, units, order or steps than a model's: read by it, and its answers brought back to them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped

from aim.model.patches import Scale
from aim.runtime import processes
from data_pipelines import npz, splits
from data_pipelines.channels.distance import Distances
from data_pipelines.channels.matched_dataset import MatchedDataset, matched
from data_pipelines.channels.matching import Matching, declared_schema
from data_pipelines.channels.vocabulary import Vocabulary
from data_pipelines.dataset import Dataset
from data_pipelines.errors import is_whole
from data_pipelines.schema import MINUTES_PER_DAY, Schema, SchemaError

# {channel: unit} or one unit per channel, in order; an empty one is not declared.
Units = Mapping[str, str] | Sequence[str]

_MOST_DAYS = 256  # that are read to see how far a dataset lies from the model's statistics


@dataclasses.dataclass(frozen=True)
class Layout:
  """Channels, order, units and steps of a caller's days, beside those of the model.

  Attributes:
    matching: from the caller's schema to the model's.
  """

  matching: Matching

  @classmethod
  def of_days(
    cls,
    shape: Sequence[int],
    schema: Schema,
    vocabulary: Vocabulary,
    channels: Sequence[str] | None,
    minutes_per_step: int | None,
    units: Units | None,
    where: str,
    zero_is_missing: Collection[str] = (),
  ) -> Layout:
    """The layout of days that a caller describes; no value is read.

    Args:
      shape: of the days.
      schema: of the model.
      vocabulary: names and units of channels.
      channels: names, in the order of the days' last axis; None for the model's.
      minutes_per_step: None for what follows from the number of steps.
      units: of channels that are not in the unit that the vocabulary has for their name; None for none.
      where: begins every message.
      zero_is_missing: names of the model's channels in which a 0 is a missing value.

    Raises:
      SchemaError: the shape, a name, a unit or the clock does not fit.
    """
    if channels is not None and (not isinstance(channels, Iterable) or isinstance(channels, set | frozenset)):
      raise SchemaError(f"{where}: channels are {channels!r}, expected a list, in the order of the days' last axis")
    if isinstance(units, set | frozenset):
      raise SchemaError(f"{where}: units are {units!r}, expected a list, in the order of the channels, or a mapping")
    names = list(schema.names if channels is None else channels)
    if isinstance(channels, str) or not all(isinstance(name, str) for name in names):
      raise SchemaError(f"{where}: channels are {channels!r}, expected a list of names")
    if len(shape) != 3 or shape[2] != len(names):
      raise SchemaError(f"{where}: values have shape {tuple(shape)}, expected [days, steps, {len(names)}]")
    minutes = (MINUTES_PER_DAY // shape[1] if shape[1] else 0) if minutes_per_step is None else minutes_per_step
    if not is_whole(minutes) or minutes < 1 or minutes * shape[1] != MINUTES_PER_DAY:
      if minutes_per_step is not None and not is_whole(minutes_per_step):
        raise SchemaError(f"{where}: minutes_per_step is {minutes_per_step!r}, expected a whole number")
      given = "" if minutes_per_step is None else f" of {minutes_per_step} min"
      raise SchemaError(f"{where}: days have {shape[1]} steps{given}, expected steps that fill {MINUTES_PER_DAY} min")
    source = declared_schema(names, int(minutes), schema, vocabulary, _unit_by_name(units, names, where), where)
    return cls(Matching.between(source, schema, vocabulary, where=where, zero_is_missing=zero_is_missing))

  @property
  def blocks(self) -> list[int]:
    """The model's channels that the days have, in the order of the days'."""
    return [pair.target for pair in self.matching.pairs]

  def to_model(self, values: Shaped[np.ndarray, "days _ _"], where: str) -> Float[np.ndarray, "days _ _"]:
    """The days in the model's schema; a channel on its clock and in its unit is copied bit for bit.

    Raises:
      SchemaError: the values are no numbers, infinite, or not 0 and 1 in a binary channel.
    """
    return self.matching.apply(_as_floats(values, where), where)

  def filled(
    self, values: Shaped[np.ndarray, "days _ _"], reconstruction: Float[np.ndarray, "days _ _"], where: str
  ) -> Shaped[np.ndarray, "days _ _"]:
    """The caller's days with their missing values from the model's days, observed ones bit for bit.

    Raises:
      SchemaError: the dtype of the days cannot hold what is filled in.
    """
    if values.dtype.kind in "iub" and not self.matching.zero_is_missing:
      return values.copy()  # nothing can be missing
    own = _as_floats(values, where)
    with np.errstate(over="ignore"):  # of float16; refused in the next lines
      result = self.matching.back(reconstruction, own)
    if len(beyond := np.argwhere(np.isinf(result))):
      row, step, channel = beyond[0]
      name = self.matching.source.names[channel]
      raise SchemaError(f"{where}: row {row} step {step} channel {name!r} would be filled beyond {own.dtype}")
    return result.astype(values.dtype) if values.dtype.kind == "V" else result

  def model_target(
    self, target: Bool[np.ndarray, "days _ _"] | None, shape: Sequence[int], where: str
  ) -> Bool[np.ndarray, "days _ _"]:
    """Mask of the values that the model has to reconstruct for the caller's target.

    Raises:
      SchemaError: the target is not bool of the days' shape.
    """
    mask = np.ones(shape, bool) if target is None else np.asarray(target)
    if mask.shape != tuple(shape) or mask.dtype != bool:
      raise SchemaError(f"{where}: target is {mask.dtype} {mask.shape}, expected bool {tuple(shape)}")
    return self.matching.targets(mask)


def tell(
  matching: Matching,
  batches: Iterable[Float[np.ndarray, "_ steps channels"]],
  scale: Scale,
  vocabulary: Vocabulary,
  where: str,
) -> None:
  """Prints on stderr what is done to data, and which channels lie far from the statistics of the training data.

  Args:
    matching: of the data.
    batches: days of the model's schema.
    scale: the model's statistics.
    vocabulary: knows which values are plausible.
    where: names the data.
  """
  if not processes.is_first_process():
    return
  distances = Distances(matching.target, np.asarray(scale.mean), np.asarray(scale.std), vocabulary)
  for days in batches:
    distances.add(days)
  for line in (*matching.told(), *(f"unlike the training data: {line}" for line in distances.told())):
    print(f"note: {where}: {line}", file=sys.stderr, flush=True)


def matched_dataset(
  dataset: Dataset, schema: Schema, scale: Scale, vocabulary: Vocabulary, zero_is_missing: Collection[str] = ()
) -> Dataset:
  """A dataset in the model's schema: itself if it is of that schema, otherwise matched, which is printed on stderr.

  Raises:
    MatchingError: channels cannot be matched; the message names the dataset and the channels.
  """
  seen = matched(dataset, schema, vocabulary, zero_is_missing)
  if isinstance(seen, MatchedDataset) and seen is not dataset:
    tell(seen.matching, _some_days(seen), scale, vocabulary, f"dataset {dataset.name!r}")
  return seen


def check_dataset_names(dataset: Dataset, schema: Schema | None, vocabulary: Vocabulary) -> None:
  """Refuses a dataset whose channels cannot be matched to a schema, before anything large is read.

  Raises:
    MatchingError: see Matching.between.
  """
  if schema is not None and dataset.schema.difference(schema) is not None:
    Matching.between(dataset.schema, schema, vocabulary, where=f"dataset {dataset.name!r}")


def npz_matching(path: str, schema: Schema, vocabulary: Vocabulary, zero_is_missing: Collection[str] = ()) -> Matching:
  """Matches the days of an npz file to a model's schema; no day is read.

  A file of the very channels, in order and on the clock of the schema, is of that schema in all that it does not
  declare itself.

  Raises:
    SchemaError: the file is no npz of days, or its channels cannot be matched; the message names the file.
  """
  declared, keys = npz.declared_channels(path)
  given = {channel.name: channel.unit for channel in declared.channels if channel.unit}
  own = declared_schema(declared.names, declared.minutes_per_step, schema, vocabulary, given, path)
  channels = own.channels
  if own.names == schema.names and own.minutes_per_step == schema.minutes_per_step:
    channels = schema.channels
  said = [{key: getattr(channel, key) for key in keys} for channel in declared.channels]
  channels = tuple(dataclasses.replace(channel, **more) for channel, more in zip(channels, said, strict=True))
  source = Schema(own.minutes_per_step, channels)
  return Matching.between(source, schema, vocabulary, where=path, zero_is_missing=zero_is_missing)


def _some_days(dataset: Dataset) -> Iterator[Float[np.ndarray, "_ steps channels"]]:
  """Days of a dataset, evenly spaced over its splits, one by one."""
  names = [split for split in splits.SPLITS if dataset.num_days(split)]
  for split in names:
    days = dataset.days(split)
    for i in np.unique(np.linspace(0, len(days) - 1, _MOST_DAYS // len(names)).astype(int)):
      yield days[int(i)]["values"][None]


def _unit_by_name(units: Units | None, names: Sequence[str], where: str) -> dict[str, str]:
  """{channel: unit} of the units that a caller gives."""
  if units is None or isinstance(units, Mapping):
    given = dict(units or {})
  elif isinstance(units, str) or len(units) != len(names):
    raise SchemaError(
      f"{where}: units are {units!r}, expected one for each of {len(names)} channels, or {{name: unit}}"
    )
  else:
    given = dict(zip(names, units, strict=True))
  for name, unit in given.items():
    if not isinstance(unit, str):
      raise SchemaError(f"{where}: the unit of channel {name!r} is {unit!r}, expected text")
  return given


def _as_floats(values: Shaped[np.ndarray, "days _ _"], where: str) -> Float[np.ndarray, "days _ _"]:
  """Numbers as floating point; to NumPy the bfloat16 of JAX is none."""
  if values.dtype.kind == "f":
    return values
  if values.dtype.kind in "iub":
    return values.astype(np.float64)
  if values.dtype.name == "bfloat16":
    return values.astype(np.float32)
  raise SchemaError(f"{where}: values are {values.dtype}, expected floating point with NaN for missing")
