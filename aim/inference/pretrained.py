"""A trained model in use: embeddings, reconstruction and imputation of days with missing values."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, SupportsFloat

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from aim.common import seen_people
from aim.common.config_files import ConfigError
from aim.common.seen_people import SeenPeople
from aim.inference import matched_days, model_card, uncertainty
from aim.inference.clipped_channels import ClippedChannel, clipped_channels, told
from aim.inference.day_functions import POOLS, DayFunctions, EncodedTokens
from aim.inference.day_runner import DayRunner, Days
from aim.inference.matched_days import Layout, Units
from aim.inference.people import People, check_profile, profile_of_rows
from aim.inference.uncertainty import Uncertainty
from aim.model.buffer_sizes import BufferSizes
from aim.model.patches import Scale
from aim.runtime import jax_settings, processes
from aim.training import checkpoint
from aim.training.checkpoint_metadata import told_about_data
from aim.training.compatibility import MADE_WITH
from aim.training.trained import exported, openmhc, source
from data_pipelines.channels import vocabulary
from data_pipelines.channels.matching import Matching
from data_pipelines.context.profile import Profile
from data_pipelines.dataset import Dataset
from data_pipelines.in_memory.plain_arrays import plain_array
from data_pipelines.schema import SchemaError

FORMATS = ("aim", "openmhc")  # of folders that save() writes


class ImputedDays(NamedTuple):
  """Filled days, and how sure that is.

  Attributes:
    filled: observed values bit for bit, and what was filled in.
    low, high: the ends of the interval of each value.
  """

  filled: Shaped[np.ndarray, "days steps channels"]
  low: Shaped[np.ndarray, "days steps channels"]
  high: Shaped[np.ndarray, "days steps channels"]


class Pretrained(DayRunner):
  """A trained model as a function of days.

  Days are arrays of numbers [days, steps, channels] of the model's schema, in its physical units, with NaN where
  nothing was observed. Missing values are never read. A value beyond the range of float32, in which the model computes,
  is refused. Days of other channels, units or steps are matched if they are described: `channels`, `minutes_per_step`
  and `units` of the methods.

  Attributes:
    schema (Schema): steps per day and channels of the days that the model takes.
    config (ConfigDict): the config of the training run.
    name (str): the model's name in tables and figures.
    training_data (dict | None): names the content of the training data; None in a checkpoint of an old version.
    trained_steps (int): number of completed training steps.
    architecture (Architecture): sizes and options of the network.
    params (dict): the network's parameters, {name: array}, as they were read: on one device.
    functions (DayFunctions): what is computed, as pure functions of parameters and days.
    scale (Scale): normalisation by the statistics of the training data (but see normalised_by_days()).
    masking (Masking): the training run's masking, of which inference reads min_observed_share only.
    imputation (str): how days are imputed before the network sees them; "none" except for LSM-1.
    zero_is_missing: names of the channels in which a 0 is a missing value.
    mesh (Mesh): the devices, each of which computes its share of the days.
    batch_size (int): the most days that each device computes at a time.
    short_holes (str): see load().
    vocabulary (Vocabulary): by which days of other channels are matched.
    one_program (bool): pad every batch like the largest, so that a few hundred days cost one compilation per function;
      False at first, which computes many days faster. It changes no results.
  """

  def __init__(
    self,
    restored: checkpoint.Restored,
    batch_size: int | np.integer = 32,
    short_holes: str | None = None,
    devices: Sequence[jax.Device] | None = None,
    reads_imputed_patches: bool = True,
  ):
    """Wraps a checkpoint that was read; users call load().

    Args:
      restored: from checkpoint.read.
      batch_size: see load().
      short_holes: see load().
      devices: those that compute; by default all of this process.
      reads_imputed_patches: see without_imputed_patches().

    Raises:
      UserError: JAX computes with other numbers or masks than all models are made with (runtime/jax_settings.py).
      ConfigError: short_holes is unknown, or batch_size is not a whole number of at least 1.
    """
    jax_settings.check()
    functions = DayFunctions.of(restored, short_holes, reads_imputed_patches)
    super().__init__(restored.schema, functions, restored.params, batch_size, devices)
    self._restored = restored
    self.config, self.trained_steps, self.training_data = restored.config, restored.step, restored.training_data
    self.name = str(restored.config.get("name", "LSM-2"))
    self.architecture, self.scale = functions.architecture, functions.scale
    self.masking, self.imputation, self.short_holes = functions.masking, functions.imputation, functions.short_holes
    named = zip(self.schema.names, self.scale.zero_is_missing, strict=True)
    self.zero_is_missing = tuple(name for name, is_so in named if is_so)
    own_vocabulary = restored.config.data.get("vocabulary", "")
    self.vocabulary = vocabulary.load(own_vocabulary if os.path.isfile(own_vocabulary) else None)
    # What has been printed: about days of other channels, about other datasets, that intervals are too narrow.
    self._told: set[Matching] = set()
    self._told_data: set[str] = set()
    self._told_alone = False
    # The model that this one was made from by normalised_by_days().
    self._original: Pretrained | None = None

  def __reduce__(self) -> tuple[Any, ...]:
    """Pickles the checkpoint without compiled programs; the copy computes on the devices of its process."""
    state = {"vocabulary": self.vocabulary, "one_program": self.one_program, "_original": self._original}
    arguments = (self._restored, self.batch_size, self.short_holes, None, self.functions.reads_imputed_patches)
    return type(self), arguments, state

  def __deepcopy__(self, memo: dict[int, Any]) -> Pretrained:
    """The model itself: nothing that it does changes it, and a copy would compile everything again."""
    return self

  @property
  def has_decoder(self) -> bool:
    """True if the model can reconstruct days; SimCLR, DINO and MSN make embeddings alone."""
    return self.architecture.projection is None

  @functools.cached_property
  def uncertainty(self) -> Uncertainty | None:
    """Table of the model's errors on held-out people (--mode=calibrate); None if nobody measured them.

    Raises:
      CheckpointError: the table is malformed.
    """
    table = self._restored.metadata.get(source.UNCERTAINTY_KEY)
    return None if table is None else Uncertainty.from_dict(table, self.schema, f"{self.name}: uncertainty")

  @property
  def parameters_digest(self) -> str:
    """Names the parameters: the same for the same ones."""
    return source.parameters_digest(self._restored)

  @property
  def context_days(self) -> int:
    """The most of a person's other days that the model reads beside a day; 0 if it reads that day alone."""
    return self.architecture.context_days

  @property
  def on_corrupt(self) -> str:
    """The training run's rule for a day that cannot be read, "stop" or "skip" (config.data.on_corrupt)."""
    return str(self.config.data.get("on_corrupt", MADE_WITH["data.on_corrupt"]))

  @property
  def imputes_input(self) -> bool:
    """True if days are imputed before the network sees them (LSM-1)."""
    return self.functions.imputes_input

  def save(
    self,
    folder: str | os.PathLike,
    dtype: str = "float32",
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
    trained_on: str = "",
    scores: str = "",
    format: str = "aim",
  ) -> None:
    """Exports the model as a folder of safetensors, JSON and a model card, whole or not at all; load() reads it.

    A model of normalised_by_days() is refused: its card would show statistics of other days as the training data's.

    Args:
      folder: to be made.
      dtype: how parameters are stored: "float32", which changes nothing, or "float16" or "bfloat16" in half the bytes.
      overwrite: whether an exported folder of this name is replaced.
      facts: for the model card, what only people know: title, summary, data, licence, citation, not_for, notes
        (docs/weights.md).
      trained_on: for the model card, a line on the people and days of the training data.
      scores: for the model card, Markdown of scores on people never seen.
      format: "aim", or "openmhc" for a release folder of OpenMHC (docs/interop.md), which has no model card.

    Raises:
      ConfigError: the folder exists or cannot be written, dtype, format or a fact is unknown, or the model is not of
        that format's layout.
      CheckpointError: a parameter is beyond the range of dtype, or the model was not read from a checkpoint.
    """
    known = model_card.checked_facts(facts or {}, "facts")
    self.check_not_normalised_by_days(f"export to {folder}")
    if not self._restored.metadata:
      raise checkpoint.CheckpointError(f"export to {folder}: this model was not read from a checkpoint")
    if format not in FORMATS:
      raise ConfigError(f"format is {format!r}, expected one of {', '.join(FORMATS)}")
    if format == "openmhc":
      if dtype != "float32" or known:
        raise ConfigError(f"export to {folder}: a folder of OpenMHC's layout is float32 and has no model card")
      openmhc.write(self._restored, folder, overwrite)
      return
    exported.check_target(pathlib.Path(folder).absolute(), overwrite)
    card = model_card.text(self._restored, dtype, known, trained_on, scores)
    exported.write(self._restored, folder, card, dtype, overwrite)

  def check_not_normalised_by_days(self, where: str) -> None:
    """Checks that this model is not one of normalised_by_days(), which is not exported; `where` begins the message.

    Raises:
      CheckpointError: it is.
    """
    if self._original is not None:
      raise checkpoint.CheckpointError(
        f"{where}: this model is normalised by other days; save the one that it was made from"
      )

  def with_plain_attention(self) -> Pretrained:
    """The same model with attention in XLA's own operations, which are there on every platform."""
    plain = dataclasses.replace(self.architecture, attention="xla", remat=False)
    restored = dataclasses.replace(self._restored, architecture=plain)
    return self._remade(restored, self.functions.reads_imputed_patches)

  def without_imputed_patches(self) -> Pretrained:
    """The same model, whose embeddings leave out the patches of an imputed day in which nothing was observed.

    LSM-1 reads them as they were filled in. LSM-2 never reads such a patch, so that this is the model itself.
    """
    return self._remade(self._restored, False) if self.functions.imputes_input else self

  def clipped_channels(self, values: Days) -> list[ClippedChannel]:
    """The channels of which this model would clip many values.

    normalised_by_days() normalises them by the days, but for those that say why not (ClippedChannel.left_alone).

    Args:
      values: days of this model's schema in physical units, NaN where missing.

    Raises:
      SchemaError: days of another shape or dtype, infinite values, or no days.
    """
    days = self.checked_days(values, "clipped_channels")
    return clipped_channels(days, self.schema, self._trained_scale, self.vocabulary)

  def normalised_by_days(
    self,
    values: Days,
    channels: Sequence[str] | None = None,
    minutes_per_step: int | None = None,
    units: Units | None = None,
  ) -> Pretrained:
    """The same model for filling days of another range: some channels are normalised by the statistics of these days.

    A model clips what lies beyond a channel's clip, five SDs of its training data, and fills in nothing beyond the
    values seen there. If it was trained on the glucose of people without diabetes, it can neither read nor fill that of
    people with it. A channel of which more than 5 % of the values would be clipped is normalised by the mean, SD and
    range of its plausible values instead, which is printed on stderr. All other channels keep the training data's,
    which is better for them (decision 104); so do channels of fewer than 288 values, those of which more than 5 % are
    implausible, which need another unit first, and those without a range in the vocabulary. Embeddings of days that are
    normalised by different statistics cannot be compared: embed with the model itself. Intervals never become narrower;
    their coverage was not measured.

    Args:
      values: days in physical units, NaN where missing.
      channels: names of the channels of `values`, if they are not the model's or in another order (docs/channels.md).
      minutes_per_step: length of a step of `values`, if it is not the model's.
      units: of channels that are in another unit than is usual under their name: {channel: unit}.

    Raises:
      SchemaError: days of another shape or dtype, infinite values, or no days.
      MatchingError: the channels cannot be matched to the model's.
    """
    _, days = self._model_days(values, "normalised_by_days", channels, minutes_per_step, units)
    return self.normalised_by(self.clipped_channels(self.checked_days(days, "normalised_by_days")))

  def normalised_by(self, clipped: Sequence[ClippedChannel]) -> Pretrained:
    """The model of normalised_by_days(), for whoever has its clipped_channels() already.

    Raises:
      SchemaError: they are those of a model of other channels.
    """
    original = self._original or self
    chosen = [channel for channel in clipped if not channel.left_alone]
    for channel in chosen:
      if self.schema.names[channel.index : channel.index + 1] != (channel.name,):
        names = ", ".join(self.schema.names)
        raise SchemaError(f"normalised_by: channel {channel.index} is {channel.name!r}, expected those of {names}")
    if processes.is_first_process():
      names, others = told(clipped)
      nothing = "no channel" if others else "no channel, because few values would be clipped"
      print(f"note: {original.name}: normalised by these days: {names or nothing}", file=sys.stderr, flush=True)
      if others:
        print(f"note: {original.name}: clipped all the same: {others}", file=sys.stderr, flush=True)
    if not chosen:
      return original
    kept = original.scale
    statistics = {"mean": kept.reference_mean, "std": kept.reference_std, "min": kept.low, "max": kept.high}
    statistics = {key: array.astype(np.float64) for key, array in statistics.items()}
    for channel in chosen:
      for key, value in (("mean", channel.mean), ("std", channel.std), ("min", channel.low), ("max", channel.high)):
        statistics[key][channel.index] = value
    scale = Scale.from_statistics(original.schema, statistics, original.zero_is_missing, original.config.data.clip)
    model = self._remade(dataclasses.replace(self._restored, scale=scale), self.functions.reads_imputed_patches)
    model._original, model._told, model._told_data = original, set(self._told), set(self._told_data)
    model._told_alone = self._told_alone
    return model

  @property
  def _trained_scale(self) -> Scale:
    """Normalisation by the statistics of the training data, also of a model of normalised_by_days()."""
    return (self._original or self).scale

  def _remade(self, restored: checkpoint.Restored, reads_imputed_patches: bool) -> Pretrained:
    """A model of the same settings and devices; that of a BatchedModel computes each call by itself."""
    arguments = (restored, self.batch_size, self.short_holes, self.mesh.devices.flatten().tolist())
    model = Pretrained(*arguments, reads_imputed_patches)
    model.vocabulary, model.one_program, model._original = self.vocabulary, self.one_program, self._original
    return model

  # What a model is used for.

  def embed(
    self,
    values: Days,
    pool: str = "mean",
    progress: bool = False,
    channels: Sequence[str] | None = None,
    minutes_per_step: int | None = None,
    units: Units | None = None,
  ) -> Float[np.ndarray, "days features"]:
    """Embeds days: pools the encoder's output over each day's observed tokens (AIM, "evaluation").

    LSM-1, which sees imputed days, pools over every token (but see without_imputed_patches()).

    Args:
      values: days in physical units, NaN where missing; each needs an observed value.
      pool: "mean" over all tokens, features = width; "mean_std" appends their standard deviation, features =
        2 * width; "channel", one mean per channel (of LSM-1: per group of channels), features = channels * width, NaN
        where nothing of the channel was observed.
      progress: show a progress bar.
      channels: names of the channels of `values`, if they are not the model's or in another order (docs/channels.md).
      minutes_per_step: length of a step of `values`, if it is not the model's.
      units: of channels that are in another unit than is usual under their name: {channel: unit}.

    Returns:
      float32 [days, features]; of described days and pool "channel" only the channels that the model and they have, in
      their order.

    Raises:
      SchemaError: days of another shape or dtype, infinite values, no days, or a day with nothing observed.
      ConfigError: pool is unknown.
      CheckpointError: the result is NaN or Inf, because the model's parameters are.
    """
    self.embedding_width(pool)
    layout, days = self._model_days(values, "embed", channels, minutes_per_step, units)
    days = self.checked_days(days, "embed", empty_days=False)
    function, description = functools.partial(self.functions.embed, pool), "embed" if progress else None
    embedding = self.map_days(f"embed, {pool}", function, days, description, whole_day=True)
    groups = self.architecture.channel_groups if pool == "channel" else 1
    self.check_result("embed", embedding.reshape(len(days), groups, -1))
    if layout and pool == "channel" and groups == len(self.schema.channels):
      return embedding.reshape(len(days), groups, -1)[:, layout.blocks].reshape(len(days), -1)
    return embedding

  def embedding_width(self, pool: str) -> int:
    """Features of an embedding by embed(pool=pool).

    Raises:
      ConfigError: pool is unknown.
    """
    if pool not in POOLS:
      raise ConfigError(f"pool is {pool!r}, expected one of {', '.join(POOLS)}")
    a = self.architecture
    return a.encoder.width * {"mean": 1, "mean_std": 2, "channel": a.channel_groups}[pool]

  def encode_tokens(
    self,
    values: Days,
    progress: bool = False,
    channels: Sequence[str] | None = None,
    minutes_per_step: int | None = None,
    units: Units | None = None,
  ) -> Float[np.ndarray, "days groups patches width"]:
    """Encodes days without pooling: the encoder's output for every token, where the token lies in the day.

    A whole day of a large model is some megabytes; encode many days in parts.

    Args:
      values: days in physical units, NaN where missing; each needs an observed value.
      progress: show a progress bar.
      channels: names of the channels of `values`, if they are not the model's or in another order (docs/channels.md).
      minutes_per_step: length of a step of `values`, if it is not the model's.
      units: of channels that are in another unit than is usual under their name: {channel: unit}.

    Returns:
      float32 [days, channels, patches, width]: a patch is config.model.patch_minutes long. NaN where the sensor lost a
      patch, which therefore has no token. Described days have those of their channels that the model has, in order. For
      LSM-1, whose patches span several channels, [days, groups of channels, patches, width] without NaN, because its
      days are imputed first.

    Raises:
      SchemaError, CheckpointError: as embed().
    """
    layout, days = self._model_days(values, "encode_tokens", channels, minutes_per_step, units)
    days = self.checked_days(days, "encode_tokens", empty_days=False)
    description = "encode" if progress else None
    tokens = self.map_days("encode tokens", self.functions.encode_on_grid, days, description, whole_day=True)
    self.check_result("encode_tokens", tokens.reshape(len(days), -1, tokens.shape[-1]))
    return tokens[:, layout.blocks] if layout and tokens.shape[1] == len(self.schema.channels) else tokens

  def impute(
    self,
    values: Days,
    progress: bool = False,
    channels: Sequence[str] | None = None,
    minutes_per_step: int | None = None,
    units: Units | None = None,
    people: People | None = None,
    dates: People | None = None,
  ) -> Shaped[np.ndarray, "days steps channels"]:
    """Fills the missing values of days.

    Binary channels are filled with 0 or 1, others with the expected value, within the range seen in training. A day
    with nothing observed is filled with what the model expects of a day that it knows nothing about.

    Args:
      values: days in physical units, NaN where missing.
      progress: show a progress bar.
      channels: names of the channels of `values`, if they are not the model's or in another order (docs/channels.md).
      minutes_per_step: length of a step of `values`, if it is not the model's.
      units: of channels that are in another unit than is usual under their name: {channel: unit}.
      people: whose each day is. A model with config.model.context_days then sees, for each day, the nearest other days
        of the person among `values`; without, no other day. Other models make nothing of it.
      dates: the date of each day, each once per person: all dates (of datetime or NumPy, or text that begins
        YYYY-MM-DD), or all whole numbers. By default a person's days come in the order of time.

    Returns:
      [days, steps, channels] without NaN, in physical units and of the dtype of `values`; observed values are returned
      bit for bit. Described days are returned in their channels, units and steps; channels that the model does not know
      keep their missing values.

    Raises:
      SchemaError: days of another shape or dtype, infinite values, no days, a dtype that cannot hold what is filled in,
        people or dates that profile_of_rows() refuses, or the model has no decoder.
      CheckpointError: the result is NaN or Inf, because the model's parameters are.
    """
    self.check_has_decoder("impute")
    if described := self._layout(values, "impute", channels, minutes_per_step, units):
      return self.impute_matched(
        described.matching, plain_array(values, "impute"), progress, people=people, dates=dates
      )
    days = self.checked_days(values, "impute")
    return self._filled(days, profile_of_rows(days, people, dates, self.context_days, "impute"), progress)

  def _filled(
    self, days: Shaped[np.ndarray, "days steps channels"], profile: Profile | None, progress: bool
  ) -> Shaped[np.ndarray, "days steps channels"]:
    """Days of this model's schema, with what it expects where they are NaN."""
    filled, missing = days.copy(), np.isnan(days)
    if missing.any():
      expected = self.physical(self.reconstruct(days, missing, progress, profile=profile))
      with np.errstate(over="ignore"):  # of float16; refused in the next lines
        filled[missing] = expected[missing]
      if len(beyond := np.argwhere(~np.isfinite(filled))):
        row, step, channel = beyond[0]
        raise SchemaError(
          f"impute: row {row} step {step} channel {self.schema.names[channel]!r} would be filled with "
          f"{expected[row, step, channel]:g}, beyond {days.dtype}; pass float32"
        )
    return filled

  def impute_with_interval(
    self,
    values: Days,
    level: SupportsFloat = 0.9,
    progress: bool = False,
    people: People | None = None,
    dates: People | None = None,
  ) -> ImputedDays:
    """Fills the missing values of days of this model's schema, and says how sure that is.

    An interval is as wide as the model's errors on held-out people, at the same distance to the nearest observed
    value of the channel; `uncertainty` has the table, and how often such intervals were right. Binary channels and
    channels that nobody was scored on have none. Of a model that reads a person's other days, days that are given
    without any have intervals of their own, `uncertainty.alone`; if its table is of an early version and has none, a
    line on stderr says so.

    Args:
      values: days in physical units, NaN where missing.
      level: 0.5 or 0.9, the share of hidden values that intervals are made to hold.
      progress: show a progress bar.
      people, dates: see impute().

    Returns:
      The filled days as impute() returns them, and the ends of the intervals; both ends are the value where it was
      observed, and NaN where there is no interval.

    Raises:
      SchemaError, CheckpointError: as impute(); or the model has no table of its errors.
      ConfigError: level is neither.
    """
    self._errors_for(level)  # before the work
    self.check_has_decoder("impute")
    days = self.checked_days(values, "impute")
    profile = profile_of_rows(days, people, dates, self.context_days, "impute")
    filled = self._filled(days, profile, progress)
    low, high = self.interval(filled, ~np.isnan(days), level, profile.known if profile else None)
    return ImputedDays(filled, low, high)

  def interval(
    self,
    filled: Float[np.ndarray, "days steps channels"],
    observed: Bool[np.ndarray, "days steps channels"],
    level: SupportsFloat = 0.9,
    beside: Bool[np.ndarray, " days"] | None = None,
  ) -> tuple[Float[np.ndarray, "days steps channels"], Float[np.ndarray, "days steps channels"]]:
    """The ends of the intervals of days that are filled already; see impute_with_interval().

    Args:
      filled: days of this model's schema in physical units.
      observed: which values were not filled in.
      level: see impute_with_interval().
      beside: which days the model filled with another day of the person beside them; by default none. Only a model
        that reads other days makes something of it.

    Raises:
      CheckpointError: the model has no table of its errors.
      ConfigError: level is none of the table's.
      SchemaError: `filled` are not days, `observed` does not say for each of their values whether it was observed, or
        `beside` is not one bool per day.
    """
    table = self._errors_for(level)
    filled, observed = self.checked_days(filled, "interval"), np.asarray(observed)
    if observed.dtype != bool or observed.shape != filled.shape:
      raise SchemaError(f"interval: observed is {observed.dtype} {observed.shape}, expected bool {filled.shape}")
    known = np.zeros(len(filled), bool) if beside is None else np.asarray(beside)
    if known.dtype != bool or known.shape != (len(filled),):
      raise SchemaError(f"interval: beside is {known.dtype} {known.shape}, expected bool ({len(filled)},)")
    if self.context_days and table.alone is None and not known.all() and not self._told_alone:
      self._told_alone = True
      print(
        f"note: {self.name}: intervals of days without other days of the person are too narrow: its table of errors "
        "was measured with other days; --mode=calibrate makes one for both",
        file=sys.stderr,
      )
    # The table is of errors in SDs of the training data; days of a smaller SD need not have smaller ones.
    trained = self._trained_scale
    width = table.half_widths(self.schema, observed, level, known) * np.maximum(self.scale.std, trained.std)
    lowest = np.minimum(self.scale.low, trained.low)
    low = np.maximum(filled - width, np.minimum(lowest, filled))  # no steps below none
    return low.astype(filled.dtype), (filled + width).astype(filled.dtype)

  def _errors_for(self, level: SupportsFloat) -> uncertainty.Uncertainty:
    """The table of errors, once it is known that it has this level; see interval()."""
    if self.uncertainty is None:
      raise checkpoint.CheckpointError(
        f"{self.name}: has no table of its errors, so it gives no intervals; --mode=calibrate makes one"
      )
    uncertainty.level_of(level)
    return self.uncertainty

  def impute_matched(
    self,
    matching: Matching,
    values: Shaped[np.ndarray, "days _ _"],
    progress: bool = False,
    where: str = "impute",
    people: People | None = None,
    dates: People | None = None,
  ) -> Shaped[np.ndarray, "days _ _"]:
    """As impute(), of days of the schema matching.source; `where` begins messages about them.

    Raises:
      SchemaError, CheckpointError: as impute().
    """
    if matching.is_identity:
      return self.impute(values, progress, people=people, dates=dates)
    self.check_has_decoder("impute")
    days = self.checked_days(self.matched_days(matching, values, where), where)
    layout = Layout(matching)
    missing = layout.model_target(matching.missing(values), values.shape, where) & np.isnan(days)
    profile, expected = profile_of_rows(days, people, dates, self.context_days, where), days
    if missing.any():
      expected = self.physical(self.reconstruct(days, missing, progress, profile=profile))
    return layout.filled(values, np.where(missing, expected, days), where)

  def reconstruct(
    self,
    values: Days,
    target: Bool[np.ndarray, "days steps channels"] | None = None,
    progress: bool = False,
    channels: Sequence[str] | None = None,
    minutes_per_step: int | None = None,
    units: Units | None = None,
    people: People | None = None,
    dates: People | None = None,
    profile: Profile | None = None,
  ) -> Float[np.ndarray, "days steps channels"]:
    """The model's estimate at every step, observed or not.

    LSM-1 masks and decodes a token without any observed value. Every other token is visible, its holes on a straight
    line in time as in training, and there the line is returned, because it is what the model has.

    Args:
      values: days in physical units, NaN where missing.
      target: where a reconstruction is needed; elsewhere the result means nothing. The fewer tokens it touches, the
        faster. None for everywhere. What is asked together does not change what comes out, with two exceptions: several
        channels of which a day has no value (with model.decoder.tokens "present"), and everything with "observed".
      progress: show a progress bar.
      channels: names of the channels of `values`, if they are not the model's or in another order (docs/channels.md).
      minutes_per_step: length of a step of `values`, if it is not the model's.
      units: of channels that are in another unit than is usual under their name: {channel: unit}.
      people, dates: see impute().
      profile: the means of other days, in the model's schema, in place of `people`: for days whose other days are not
        among `values`. Not together with `people`.

    Returns:
      float32 [days, steps, channels]: z-scores, and probabilities on binary channels; physical() converts them. What is
      expected of described days is in their channels, units and steps instead of z-scores, and NaN in channels that the
      model does not know.

    Raises:
      SchemaError: days, target or profile of another shape or dtype, infinite values, no days, people or dates that are
        not one for each day, or the model has no decoder.
      CheckpointError: the result is NaN or Inf, because the model's parameters are.
    """
    self.check_has_decoder("reconstruct")
    layout, days = self._model_days(values, "reconstruct", channels, minutes_per_step, units)
    days = self.checked_days(days, "reconstruct")
    if profile is None:
      profile = profile_of_rows(days, people, dates, self.context_days, "reconstruct")
    elif people is not None or dates is not None:
      raise SchemaError("reconstruct: has a profile and people or dates, expected one of them")
    else:
      check_profile(profile, days.shape, "reconstruct")
    if layout:
      own = plain_array(values, "reconstruct")
      z = self.reconstruct(days, layout.model_target(target, own.shape, "reconstruct"), progress, profile=profile)
      return layout.matching.back(np.where(self.scale.binary, z, self.physical(z)))
    target = np.ones(days.shape, bool) if target is None else plain_array(target, "reconstruct", "target's values")
    if target.shape != days.shape or target.dtype != bool:
      raise SchemaError(f"reconstruct: target is {target.dtype} {target.shape}, expected bool {days.shape}")
    description = "reconstruct" if progress else None
    there, absent = self.functions.divided_by_presence(days, target)
    z = self._decoded(days, there, profile, description)
    some = np.flatnonzero(absent.any((1, 2)))
    if len(some):
      others = self._decoded(days[some], absent[some], profile.at(some) if profile else None, description)
      z[some] = np.where(absent[some], others, z[some])
    if not (np.isfinite(z) | ~target).all():
      self.check_result("reconstruct", np.where(target, z, 0).reshape(len(days), 1, -1))
    return z

  def _decoded(
    self,
    days: Shaped[np.ndarray, "days steps channels"],
    target: Bool[np.ndarray, "days steps channels"],
    profile: Profile | None,
    description: str | None,
  ) -> Float[np.ndarray, "days steps channels"]:
    """DayFunctions.decode of all days, with what is known of other days, if the model reads them."""
    if profile is None or not self.context_days:
      return self.map_days("reconstruct", self.functions.decode, days, description, target=target)
    return self.map_days(
      "reconstruct in context", self.functions.decode_in_context, days, description, False, target, *profile
    )

  def physical(self, z: Float[np.ndarray, "*days steps channels"]) -> Float[np.ndarray, "*days steps channels"]:
    """Converts reconstruct()'s output to physical units; binary channels become 0 or 1. NaN and Inf stay what they are.

    Raises:
      SchemaError: z is not an array of numbers [..., steps, channels].
    """
    z = plain_array(z, "physical", "z-scores")
    expected = (self.schema.steps, len(self.schema.channels))
    if z.dtype.kind not in "fiu" or z.shape[-2:] != expected:
      steps, channels = expected
      raise SchemaError(f"physical: z-scores are {z.dtype} {z.shape}, expected numbers [..., {steps}, {channels}]")
    return self.scale.physical(z)

  # Days and datasets that are not of the model's schema.

  def matched_days(
    self, matching: Matching, values: Shaped[np.ndarray, "days _ _"], where: str
  ) -> Shaped[np.ndarray, "days steps channels"]:
    """Days of the schema matching.source in this model's; what is done to them is printed on stderr, once per model.

    Raises:
      SchemaError: they are not of that schema; `where` begins the message.
    """
    if matching.is_identity:
      return values
    days = Layout(matching).to_model(values, where)
    if matching not in self._told:
      self._told.add(matching)
      matched_days.tell(matching, (days,), self._trained_scale, self.vocabulary, where)
    return days

  def _layout(
    self,
    values: Any,
    where: str,
    channels: Sequence[str] | None,
    minutes_per_step: int | None,
    units: Units | None,
  ) -> Layout | None:
    """The layout of days that a caller describes; None if there is no description.

    Raises:
      SchemaError: they are not of the layout that is described, or that cannot be matched.
    """
    if channels is None and minutes_per_step is None and units is None:
      return None
    shape = plain_array(values, where).shape
    described = channels, minutes_per_step, units
    return Layout.of_days(shape, self.schema, self.vocabulary, *described, where, self.zero_is_missing)

  def _model_days(
    self,
    values: Any,
    where: str,
    channels: Sequence[str] | None,
    minutes_per_step: int | None,
    units: Units | None,
  ) -> tuple[Layout | None, Any]:
    """The days in this model's schema, with the layout that they came in; None and the days as they are without one."""
    layout = self._layout(values, where, channels, minutes_per_step, units)
    return layout, self.matched_days(layout.matching, plain_array(values, where), where) if layout else values

  def matched(self, dataset: Dataset) -> Dataset:
    """A dataset in this model's schema: itself if it is of that schema, otherwise a view, which is reported on stderr.

    Raises:
      MatchingError: its channels cannot be matched; the message names the dataset and the channels.
    """
    return matched_days.matched_dataset(
      dataset, self.schema, self._trained_scale, self.vocabulary, self.zero_is_missing
    )

  def check_dataset(self, dataset: Dataset) -> None:
    """Checks that a dataset has this model's schema.

    Raises:
      SchemaError: it has another.
    """
    difference = self.schema.difference(dataset.schema)
    if difference:
      raise SchemaError(f"dataset {dataset.name!r} does not fit the checkpoint: {difference}")

  def check_unseen_people(self, dataset: Dataset) -> None:
    """Checks that a dataset has this model's schema, before its people are scored as people never seen.

    Prints a line, once, if it is not the dataset that the model was trained on, and whether its eval people were.

    Raises:
      SchemaError: it has another schema.
    """
    self.check_dataset(dataset)
    line = told_about_data(self.training_data, dataset)
    if line and line not in self._told_data:  # the parts of an evaluation ask again
      self._told_data.add(line)
      print(f"note: {line}; its split eval: {self.seen_people(dataset, dataset.people('eval')).text}")

  def seen_people(self, dataset: Dataset, people: Collection[str]) -> SeenPeople:
    """Counts the people that the model was trained on, itself or in the weights it started from, by its checkpoint.

    Args:
      dataset: has the people.
      people: their ids.
    """
    history = (entry.get("training_data") for entry in self._restored.metadata.get("history", ()))
    return seen_people.seen_people((self.training_data, *history), dataset, people)

  def check_has_decoder(self, where: str) -> None:
    """Checks that the model can reconstruct days; `where` begins the message.

    Raises:
      SchemaError: it cannot.
    """
    if not self.has_decoder:
      raise SchemaError(f"{where}: {self.name} has no decoder, it makes embeddings alone; use a masked autoencoder")

  # For code that computes with the encoder itself: pure functions of parameters and days.

  def encode(self, params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes) -> EncodedTokens:
    """Encodes each day's observed tokens (of LSM-1: all tokens, imputed); may be jitted and differentiated.

    Args:
      params: self.params, or others of the same architecture; only the encoder's are read.
      values: days in physical units, NaN where missing.
      sizes: buffers that are large enough for every day, from encoder_sizes(). In a function that is transformed, as by
        jax.jit, nobody can compare them with the days: a day with more tokens then has embeddings of NaN.

    Raises:
      SchemaError: a day has more tokens than `sizes` have slots, or `sizes` are of no encoder or of another model.
    """
    return self.functions.encode(params, values, sizes)

  def encoder_sizes(self, *days: Float[np.ndarray, "_ steps channels"]) -> BufferSizes:
    """Buffers for encode() that hold the observed tokens of every day of these arrays.

    Raises:
      SchemaError: days of another shape or dtype, infinite values, no days, or no array.
    """
    if not days:
      raise SchemaError("encoder_sizes: there are no days")
    days = tuple(self.checked_days(values, "encoder_sizes") for values in days)
    counts = (self.functions.token_counts(values, whole_day=True)[0] for values in days)
    return self.functions.padded_sizes(max(int(count.max()) for count in counts), 1)
