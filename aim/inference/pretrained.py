"""A trained model in use: embeddings, reconstruction and imputation of days with missing values."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import pathlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from aim.common import seen_people
from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.common.seen_people import SeenPeople
from aim.inference import matched_days, model_card, uncertainty
from aim.inference.matched_days import Layout, Units
from aim.inference.uncertainty import Uncertainty
from aim.model import from_config, loss, lsm2, patches
from aim.model.buffer_sizes import BufferSizes
from aim.model.masking import TokenSet, evaluation_token_set, inherited_missing
from aim.model.patches import Arrays
from aim.model.person_context import Context
from aim.model.token_buffers import TokenBuffer, move
from aim.runtime import compile_options, jax_settings, sharding
from aim.training import checkpoint
from aim.training.checkpoint_metadata import told_about_data
from aim.training.compatibility import MADE_WITH
from aim.training.trained import exported, openmhc, source
from data_pipelines.channels import vocabulary
from data_pipelines.channels.matching import Matching
from data_pipelines.channels.zeros import without_zeros
from data_pipelines.context.day_order import people_and_order
from data_pipelines.context.profile import Profile, profiles_of_rows
from data_pipelines.dataset import Dataset
from data_pipelines.in_memory.plain_arrays import check_unmasked, plain_array
from data_pipelines.schema import Schema, SchemaError

# Days as callers have them; whatever numpy.asarray makes an array of numbers works, such as nested lists.
Days = Shaped[np.ndarray, "days steps channels"] | Shaped[Array, "days steps channels"] | Sequence

# One entry per day: ids of people, or dates.
People = Shaped[np.ndarray, " days"] | Sequence

POOLS = ("mean", "mean_std", "channel")
FORMATS = ("aim", "openmhc")  # of folders that save() writes
SHORT_HOLES = ("auto", "decode", "interpolate")


class EncodedTokens(NamedTuple):
  """The encoder's output for a batch of days, in token buffers.

  Attributes:
    embeddings: float32; only the first `lengths` tokens of each day mean anything.
    positions: each token's place on the day's grid, channel (of LSM-1: group of channels) * patches per day + patch.
    lengths: how many tokens each day has.
  """

  embeddings: Float[Array, "b k d"]
  positions: Int[Array, "b k"]
  lengths: Int[Array, " b"]


class ImputedDays(NamedTuple):
  """Filled days, and how sure that is.

  Attributes:
    filled: observed values bit for bit, and what was filled in.
    low, high: the ends of the interval of each value.
  """

  filled: Shaped[np.ndarray, "days steps channels"]
  low: Shaped[np.ndarray, "days steps channels"]
  high: Shaped[np.ndarray, "days steps channels"]


class Pretrained:
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
    scale (Scale): normalisation by the statistics of the training data.
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

  one_program = False

  def __init__(
    self,
    restored: checkpoint.Restored,
    batch_size: int | np.integer = 32,
    short_holes: str | None = None,
    devices: Sequence[jax.Device] | None = None,
  ):
    """Wraps a checkpoint that was read; users call load().

    Args:
      restored: from checkpoint.read.
      batch_size: see load().
      short_holes: see load().
      devices: those that compute; by default all of this process.

    Raises:
      UserError: JAX computes with other numbers or masks than all models are made with (runtime/jax_settings.py).
      ConfigError: short_holes is unknown, or batch_size is not a whole number of at least 1.
    """
    jax_settings.check()
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
      raise ConfigError(f"batch_size is {batch_size!r}, expected a whole number of at least 1")
    self._restored = restored
    self.schema: Schema = restored.schema
    self.scale, self.config, self.trained_steps = restored.scale, restored.config, restored.step
    self.architecture, self.params, self.batch_size = restored.architecture, restored.params, int(batch_size)
    self.training_data = restored.training_data
    self._told_data: set[str] = set()
    self._told_alone = False  # that intervals are too narrow
    self.mesh = sharding.data_mesh(devices or jax.local_devices())
    self.name = str(restored.config.get("name", "LSM-2"))
    self.masking = from_config.masking(restored.config, restored.schema)
    self.imputation = restored.config.data.impute
    named = zip(self.schema.names, self.scale.zero_is_missing, strict=True)
    self.zero_is_missing = tuple(name for name, is_so in named if is_so)
    trained_for = restored.config.get("impute", {}).get("short_holes", MADE_WITH["impute.short_holes"])
    # A hole in a visible token of an imputed day is no hole to the model, which sees the imputed value.
    chosen = "interpolate" if self.imputes_input else short_holes or trained_for
    if chosen not in SHORT_HOLES:
      raise ConfigError(f"config.impute.short_holes is {chosen!r}, expected one of {', '.join(SHORT_HOLES)}")
    trained = self.masking.trains_short_holes(self.architecture.patch_values)
    self.short_holes = chosen if chosen != "auto" else "decode" if trained else "interpolate"
    self._graph = lsm2.abstract(self.architecture)[0]
    self._programs: dict[str, Callable[..., Any]] = {}  # compiled ones, freed with the model
    own_vocabulary = restored.config.data.get("vocabulary", "")
    self.vocabulary = vocabulary.load(own_vocabulary if os.path.isfile(own_vocabulary) else None)
    self._told: set[Matching] = set()  # what has been printed about days of other channels

  def __reduce__(self) -> tuple[Any, ...]:
    """What pickle keeps: what was read, without compiled programs; the copy computes on the devices of its process."""
    state = {"vocabulary": self.vocabulary, "one_program": self.one_program}
    return type(self), (self._restored, self.batch_size, self.short_holes), state

  def __deepcopy__(self, memo: dict[int, Any]) -> Pretrained:
    """The model itself: nothing that it does changes it, and a copy would compile everything again."""
    return self

  @property
  def has_decoder(self) -> bool:
    """Whether the model can reconstruct days; SimCLR, DINO and MSN make embeddings alone."""
    return self.architecture.projection is None

  @functools.cached_property
  def uncertainty(self) -> Uncertainty | None:
    """How large the model's errors are on held-out people (--mode=calibrate); None if nobody measured it.

    Raises:
      CheckpointError: the table is malformed.
    """
    table = self._restored.metadata.get(source.UNCERTAINTY_KEY)
    return None if table is None else Uncertainty.from_dict(table, self.schema, f"{self.name}: uncertainty")

  @property
  def parameters_digest(self) -> str:
    """Names the parameters: the same for the same ones."""
    return source.parameters_digest(self._restored)

  @functools.cached_property
  def params_on_mesh(self) -> dict[str, Array]:
    """The parameters on every device of the mesh."""
    return jax.device_put(self.params, sharding.replicated(self.mesh))

  @property
  def days_at_once(self) -> int:
    """The most days that all devices together compute at a time."""
    return self.batch_size * self.mesh.size

  @property
  def context_days(self) -> int:
    """The most of a person's other days that the model reads beside a day; 0 if it reads that day alone."""
    return self.architecture.context_days

  @property
  def on_corrupt(self) -> str:
    """What the training run did about a day that cannot be read, "stop" or "skip" (config.data.on_corrupt)."""
    return str(self.config.data.get("on_corrupt", MADE_WITH["data.on_corrupt"]))

  @property
  def imputes_input(self) -> bool:
    """Whether days are imputed before the network sees them (LSM-1)."""
    return self.imputation != "none"

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

  def with_plain_attention(self) -> Pretrained:
    """The same model with attention in XLA's own operations, which are there on every platform."""
    plain = dataclasses.replace(self.architecture, attention="xla", remat=False)
    restored = dataclasses.replace(self._restored, architecture=plain)
    return type(self)(restored, self.batch_size, self.short_holes, self.mesh.devices.flatten().tolist())

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

    LSM-1, which sees imputed days, pools over every token.

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
    function, description = functools.partial(self._embed, pool), "embed" if progress else None
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
    tokens = self.map_days("encode tokens", self._encode_on_grid, days, description, whole_day=True)
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
    return self._filled(days, self.profile_of_rows(days, people, dates, "impute"), progress)

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
    profile = self.profile_of_rows(days, people, dates, "impute")
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
    width = table.half_widths(self.schema, observed, level, known) * self.scale.std
    low = np.maximum(filled - width, np.minimum(self.scale.low, filled))  # no steps below none
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
    profile, expected = self.profile_of_rows(days, people, dates, where), days
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
    """What the model expects at every step, observed or not.

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
      profile = self.profile_of_rows(days, people, dates, "reconstruct")
    elif people is not None or dates is not None:
      raise SchemaError("reconstruct: has a profile and people or dates, expected one of them")
    else:
      _check_profile(profile, days.shape, "reconstruct")
    if layout:
      own = plain_array(values, "reconstruct")
      z = self.reconstruct(days, layout.model_target(target, own.shape, "reconstruct"), progress, profile=profile)
      return layout.matching.back(np.where(self.scale.binary, z, self.physical(z)))
    target = np.ones(days.shape, bool) if target is None else plain_array(target, "reconstruct", "target's values")
    if target.shape != days.shape or target.dtype != bool:
      raise SchemaError(f"reconstruct: target is {target.dtype} {target.shape}, expected bool {days.shape}")
    description = "reconstruct" if progress else None
    there, absent = self.divided_by_presence(days, target)
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
    """decode() of all days, with what is known of other days, if the model reads them."""
    if profile is None or not self.context_days:
      return self.map_days("reconstruct", self.decode, days, description, target=target)
    return self.map_days("reconstruct in context", self.decode_in_context, days, description, False, target, *profile)

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

  def profile_of_rows(
    self,
    days: Shaped[np.ndarray, "days steps channels"],
    people: People | None,
    dates: People | None,
    where: str,
  ) -> Profile | None:
    """What the model is given of each person's other days among `days`; None without people, or if it reads none.

    Args:
      days: of this model's schema.
      people, dates: see impute(); checked whether or not the model reads other days.
      where: begins messages.

    Raises:
      SchemaError: people or dates are masked, not one for each day, missing for one or of several kinds; a person has
        a date twice; or there are dates without people.
    """
    if people is None:
      if dates is not None:
        raise SchemaError(f"{where}: has dates without people, expected whose each day is, too")
      return None
    check_unmasked(people, where, "people")
    check_unmasked(dates, where, "dates")
    if not self.context_days:
      people_and_order(len(days), people, dates, where)
      return None
    return profiles_of_rows(days, people, self.context_days, dates, where)

  # Checks of input.

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
      matched_days.tell(matching, (days,), self.scale, self.vocabulary, where)
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

  def checked_days(self, values: Any, where: str, empty_days: bool = True) -> Shaped[np.ndarray, "days steps channels"]:
    """The days as a NumPy array of the dtype that they have, once they are known to be of this model's schema.

    Args:
      values: what was passed as days.
      where: begins the message, for example a file or a method.
      empty_days: whether days without any observed value are accepted.

    Returns:
      The days, with NaN for each 0 of the channels of config.data.zero_is_missing.

    Raises:
      SchemaError: they are not.
    """
    days = plain_array(values, where)
    steps, channels = self.schema.steps, len(self.schema.channels)
    if days.ndim != 3:
      raise SchemaError(f"{where}: values have shape {days.shape}, expected [days, {steps}, {channels}]")
    # To NumPy the bfloat16 of JAX is no floating point.
    as_floats = {"i": np.float64, "u": np.float64, "V": np.float32 if days.dtype == jnp.bfloat16 else days.dtype}
    self.schema.check(days.astype(as_floats.get(days.dtype.kind, days.dtype), copy=False), where)
    if not len(days):
      raise SchemaError(f"{where}: there are no days")
    largest = np.finfo(np.float32).max
    if days.dtype.itemsize > 4 and len(beyond := np.argwhere(np.abs(days) > largest)):
      row, step, channel = beyond[0]
      raise SchemaError(
        f"{where}: row {row} step {step} channel {self.schema.names[channel]!r} is {days[row, step, channel]:g}, "
        f"expected at most {largest:.2g}: the model computes in float32"
      )
    days = without_zeros(days, self.scale.zero_is_missing)
    if not empty_days:
      self._check_observed(days, where)
    return days

  def _check_observed(self, days: Shaped[np.ndarray, "days steps channels"], where: str) -> None:
    """Raises SchemaError for a day that has nothing to embed."""
    empty = np.flatnonzero(np.isnan(days).all(axis=(1, 2)))
    if len(empty):
      raise SchemaError(f"{where}: row {empty[0]} has no observed value; a day needs at least one")
    share = self.masking.min_observed_share
    if share and len(unusable := np.flatnonzero(self._token_counts(days, whole_day=True)[0] == 0)):
      raise SchemaError(
        f"{where}: row {unusable[0]} has no patch of which a share of {share:g} is observed, as this model was trained "
        "to need (config.masking.min_observed_share)"
      )

  def readable_days(self, values: Days) -> Bool[np.ndarray, " days"]:
    """Which days have something that the model can read, so that they have an embedding.

    Args:
      values: days in physical units, NaN where missing.

    Raises:
      SchemaError: days of another shape or dtype, infinite values, or no days.
    """
    days = self.checked_days(values, "readable_days")
    return ~np.isnan(days).all(axis=(1, 2)) & (self._token_counts(days, whole_day=True)[0] > 0)

  def check_result(self, where: str, result: Float[np.ndarray, "days groups numbers"]) -> None:
    """Checks that a result is finite. A group of numbers may be NaN as a whole, but not every group of a day.

    Raises:
      CheckpointError: it is not; the message names the parameter to blame.
    """
    unknown = np.isnan(result).all(axis=2)
    damaged = (~np.isfinite(result).all(axis=2) & ~unknown).any(axis=1) | unknown.all(axis=1)
    if not damaged.any():
      return
    bad = [name for name, parameter in sorted(self.params.items()) if not jnp.isfinite(parameter).all()]
    reason = f"parameter {bad[0]} of the model is not finite" if bad else f"{self.architecture.dtype} overflowed"
    raise checkpoint.CheckpointError(
      f"{where}: the result for row {np.flatnonzero(damaged)[0]} is NaN or Inf, although its values are not: {reason}"
    )

  def matched(self, dataset: Dataset) -> Dataset:
    """A dataset in this model's schema: itself if it is of that schema, otherwise a view, which is reported on stderr.

    Raises:
      MatchingError: its channels cannot be matched; the message names the dataset and the channels.
    """
    return matched_days.matched_dataset(dataset, self.schema, self.scale, self.vocabulary, self.zero_is_missing)

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
    """How many people the model was trained on, by its checkpoint, itself or in the weights that it started from.

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
    self._check_sizes(sizes)
    tokens = self._tokens(values, whole_day=True)
    lengths, slots = tokens.visible_lengths, min(sizes.encoder, sizes.largest)
    if not isinstance(lengths, jax.core.Tracer) and len(rows := np.flatnonzero(np.asarray(lengths) > slots)):
      raise SchemaError(
        f"encode: row {rows[0]} has {int(lengths[rows[0]])} tokens, but sizes are buffers of {slots} tokens; "
        "model.encoder_sizes(days), of all days that will be encoded, gives sizes that hold them"
      )
    buffer = sizes.visible_buffer(tokens._replace(visible_lengths=jnp.minimum(lengths, slots)))
    positions = buffer.take(tokens.order)
    network = lsm2.merge(self._graph, params)
    encoded = network.encode(buffer.take(tokens.values), buffer.take(tokens.visible), positions, buffer)
    known = jnp.where((lengths <= slots)[:, None, None], encoded.astype(jnp.float32), jnp.nan)
    return EncodedTokens(known, positions, lengths)

  def decode(
    self,
    params: dict[str, Array],
    values: Float[Array, "b s c"],
    target: Bool[Array, "b s c"],
    sizes: BufferSizes,
    context: Context | None = None,
  ) -> Float[Array, "b s c"]:
    """What the model expects where `target` is; pure, and may be jitted.

    Args:
      params: self.params, or others of the same architecture.
      values: days in physical units, NaN where missing.
      target: where a reconstruction is needed; elsewhere the result means nothing.
      sizes: buffers that are large enough for every day's tokens and targets, from padded_sizes().
      context: what is known of other days, for a model that reads them; by default nothing.

    Returns:
      z-scores, and probabilities on binary channels.
    """
    a = self.architecture
    tokens = self._tokens(values, target=target)._replace(context=context)
    targets = sizes.target_buffer(tokens)
    prediction = loss.forward(lsm2.merge(self._graph, params), tokens, sizes, targets)
    # From the targets' buffer to the order of the tokens, then to the grid; tokens without a target become 0.
    in_order = TokenBuffer.padded(jnp.zeros_like(tokens.target_ends), tokens.target_ends, a.tokens)
    grid = jnp.argsort(tokens.order, axis=1)
    z = jnp.take_along_axis(move(prediction, targets, in_order), grid[:, :, None], axis=1)
    z = patches.unpatchify(z, a.channels, a.patch_channels)
    z = jnp.where(self.scale.binary, jax.nn.sigmoid(z), jnp.clip(z, -self.scale.clip, self.scale.clip))
    return z if self.short_holes == "decode" else self._with_lines(z, values)

  def decode_in_context(
    self,
    params: dict[str, Array],
    values: Float[Array, "b s c"],
    target: Bool[Array, "b s c"],
    mean: Float[Array, "b s c"],
    days: Shaped[Array, "b s c"],
    sizes: BufferSizes,
  ) -> Float[Array, "b s c"]:
    """As decode(), with mean and number of each person's other days (data_pipelines/context/profile.py)."""
    return self.decode(params, values, target, sizes, Context.normalised(self.scale, mean, days))

  def divided_by_presence(self, values: Arrays, target: Arrays) -> tuple[Arrays, Arrays]:
    """The targets in channels that a day has, and in those it lacks, whole; all in the first where it is no matter.

    With decoder_tokens "present", tokens of a channel without a value are in the decoder only if they are asked for,
    and the others attend to them. Apart, they change nothing of the others, as in training.

    Args:
      values: days in physical units, NaN where missing.
      target: bool of the same shape.
    """
    xp = target.__array_namespace__()
    if self.architecture.decoder_tokens != "present":
      return target, xp.zeros_like(target)
    group = self.architecture.patch_channels
    grouped = lambda x: xp.repeat(x.any(axis=1).reshape(x.shape[0], -1, group).any(axis=2), group, axis=1)
    present = grouped(~xp.isnan(values))[:, None]
    lost = xp.broadcast_to(grouped(target)[:, None] & ~present, target.shape)
    return target & present, lost

  def _check_sizes(self, sizes: BufferSizes) -> None:
    """Raises SchemaError for sizes that are not those of an encoder of this model's days."""
    expected = "expected those that model.encoder_sizes(days) returns"
    if not isinstance(sizes, BufferSizes):
      raise SchemaError(f"encode: sizes are a {type(sizes).__name__}, {expected}")
    if sizes.groups:
      raise SchemaError(f"encode: sizes are of days that are packed in {sizes.groups} buffers, {expected}")
    if sizes.tokens != self.architecture.tokens:
      raise SchemaError(
        f"encode: sizes are of days of {sizes.tokens} tokens, the model's have {self.architecture.tokens}, {expected}"
      )

  def encoder_sizes(self, *days: Float[np.ndarray, "_ steps channels"]) -> BufferSizes:
    """Buffers for encode() that hold the observed tokens of every day of these arrays.

    Raises:
      SchemaError: days of another shape or dtype, infinite values, no days, or no array.
    """
    if not days:
      raise SchemaError("encoder_sizes: there are no days")
    days = tuple(self.checked_days(values, "encoder_sizes") for values in days)
    return self.padded_sizes(max(int(self._token_counts(values, whole_day=True)[0].max()) for values in days), 1)

  def padded_sizes(self, visible: int, targets: int) -> BufferSizes:
    """Padded buffers for batches of days with at most so many visible tokens and tokens to predict.

    They come in few sizes because each is compiled: eighths of the grid to encode; an eighth, half or all of it to
    predict.

    Raises:
      SchemaError: no day has so many tokens.
    """
    n = self.architecture.tokens
    for what, count in ("visible", visible), ("targets", targets):
      if not 0 <= count <= n:
        raise SchemaError(f"padded_sizes: {what} is {count}, expected 0 to {n}, the tokens of a day")
    unit = 128 if n >= 1024 else 8
    slots = lambda eighths: min(n, math.ceil(eighths * n / 8 / unit) * unit)
    smallest = lambda count, of: slots(next(eighths for eighths in of if 8 * count <= eighths * n))
    encoder, decoder = smallest(visible, range(1, 9)), smallest(targets, (1, 4, 8))
    return BufferSizes(0, encoder, n, decoder, n, n, self.architecture.decoder_tokens)

  def days_per_batch(self, days: int) -> int:
    """The size of the batches in which so many days are computed, the last of them padded."""
    # Powers of two: few shapes to compile, whatever the number of days. Every device gets the same number of days.
    size = min(self.days_at_once, 1 << max(days - 1, 0).bit_length())
    return -(-size // self.mesh.size) * self.mesh.size

  def batch_buffers(self, days: int, visible: int, targets: int) -> BufferSizes:
    """Buffers for a batch of so many days, as padded_sizes() has them for any number of days."""
    return self.padded_sizes(visible, targets)

  def map_days(
    self,
    name: str,
    function: Callable[..., Any],
    values: Shaped[np.ndarray, "days steps channels"],
    description: str | None = None,
    whole_day: bool = False,
    target: Bool[np.ndarray, "days steps channels"] | None = None,
    *more: Shaped[np.ndarray, "days ..."],
  ) -> Shaped[np.ndarray, "days ..."]:
    """Computes a function of every day in batches, compiled once per model and batch shape.

    Days are computed in the order of their observed tokens, so that a batch needs little padding, and returned in the
    order in which they came. Each device computes an equal part of every batch.

    Args:
      name: of the function; the same name always means the same function of this model.
      function: of (parameters, values [b, steps, channels], sizes), or of (parameters, values, target, *more, sizes) if
        there is a target; pure, with one array [b, ...] as its result. `sizes` are buffers that hold the tokens.
      values: days in physical units, NaN where missing.
      description: of a progress bar; None for no bar.
      whole_day: see _readable.
      target: passed to the function.
      more: passed too.
    """
    if name not in self._programs:
      self._programs[name] = self._compiled(function)
    visible, targets = self._token_counts(values, whole_day, target)
    order = np.argsort(visible, kind="stable")
    size = self.days_per_batch(len(values))
    results: np.ndarray | None = None
    with progress_bar(len(values), description or "", "day", disable=description is None) as bar:
      for start in range(0, len(values), size):
        days = order[start : start + size]
        padding = ((0, size - len(days)), (0, 0), (0, 0))
        batch = [np.pad(np.asarray(values[days], np.float32), padding, constant_values=np.nan)]
        if target is not None:
          batch.append(np.pad(target[days], padding))
        batch += [np.pad(array[days], [(0, size - len(days))] + [(0, 0)] * (array.ndim - 1)) for array in more]
        fitted = slice(None) if self.one_program else days
        sizes = self.batch_buffers(size, int(visible[fitted].max()), int(targets[fitted].max()))
        on_devices = sharding.divided(batch, self.mesh)
        result = np.asarray(self._programs[name](self.params_on_mesh, on_devices, sizes))
        results = np.empty((len(values), *result.shape[1:]), result.dtype) if results is None else results
        results[days] = result[: len(days)]
        bar.update(len(days))
    assert results is not None  # there is at least one day
    return results

  def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function of (parameters, arrays of days, sizes) that divides the days among the devices."""

    def program(params: dict[str, Array], days: list[Array], sizes: BufferSizes) -> Array:
      return sharding.on_own_windows(lambda *arrays: function(*arrays, sizes), self.mesh)(params, *days)

    placement = sharding.replicated(self.mesh), sharding.batch_sharding(self.mesh)
    options = compile_options.compiler_options()
    return jax.jit(program, static_argnums=2, in_shardings=placement, compiler_options=options)

  # What is compiled.

  def _embed(
    self, pool: str, params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes
  ) -> Float[Array, "b features"]:
    encoded, positions, lengths = self.encode(params, values, sizes)
    if pool == "channel":
      a = self.architecture
      return lsm2.pooled_by_channel(encoded, lengths, positions // a.length, a.channel_groups)
    return lsm2.pooled(encoded, lengths, pool)

  def _encode_on_grid(
    self, params: dict[str, Array], values: Float[Array, "b s c"], sizes: BufferSizes
  ) -> Float[Array, "b groups length d"]:
    a = self.architecture
    encoded, positions, lengths = self.encode(params, values, sizes)
    # Slots without a token hold arbitrary numbers; they are dropped.
    positions = jnp.where(jnp.arange(positions.shape[1]) < lengths[:, None], positions, a.tokens)
    grid = jnp.full((len(values), a.tokens, encoded.shape[-1]), jnp.nan)
    grid = grid.at[jnp.arange(len(values))[:, None], positions].set(encoded, mode="drop")
    return grid.reshape(len(values), a.channel_groups, a.length, -1)

  def _with_lines(self, z: Float[Array, "b s c"], values: Float[Array, "b s c"]) -> Float[Array, "b s c"]:
    """Replaces z at the missing steps of partly observed patches by the line through the channel's observed steps."""
    a = self.architecture
    line = patches.normalised_days(self.scale, values, "linear")[0]
    observed = ~jnp.isnan(values)
    tokens = patches.patchify(observed, a.patch, a.patch_channels)
    partly = jnp.broadcast_to(tokens.any(2, keepdims=True), tokens.shape)
    partly = patches.unpatchify(partly, a.channels, a.patch_channels)
    return jnp.where(partly & ~observed, line, z)

  def _tokens(
    self, values: Float[Array, "b s c"], whole_day: bool = False, target: Bool[Array, "b s c"] | None = None
  ) -> TokenSet:
    """The tokens that are visible to the encoder, and those with a target."""
    a = self.architecture
    z = patches.normalised_days(self.scale, values, self.imputation)[0]
    readable = self._readable(~jnp.isnan(values), whole_day)
    fold = lambda x: patches.fold(x, a.patch_channels)
    return evaluation_token_set(
      self.masking, fold(z), fold(readable), a.patch_values, None if target is None else fold(target)
    )

  def _readable(self, observed: Arrays, whole_day: bool) -> Arrays:
    """The values that tokens may be made of.

    They are the observed ones. Of an imputed day (LSM-1) they are all values if `whole_day`; otherwise those of the
    tokens with an observed value, so that the others can be reconstructed.
    """
    if not self.imputes_input:
      return observed
    xp = observed.__array_namespace__()
    if whole_day:
      return xp.ones_like(observed)
    a = self.architecture
    tokens = patches.patchify(observed, a.patch, a.patch_channels)
    visible = ~inherited_missing(tokens, self.masking)
    return patches.unpatchify(xp.broadcast_to(visible[:, :, None], tokens.shape), a.channels, a.patch_channels)

  def _token_counts(
    self,
    values: Shaped[np.ndarray, "days s c"],
    whole_day: bool,
    target: Bool[np.ndarray, "days s c"] | None = None,
  ) -> tuple[Int[np.ndarray, " days"], Int[np.ndarray, " days"]]:
    """How many visible tokens each day has, and how many tokens with a target."""
    a = self.architecture
    tokens = lambda x: patches.patchify(x, a.patch, a.patch_channels)
    readable = self._readable(~np.isnan(values), whole_day)
    visible = ~inherited_missing(tokens(readable), self.masking)
    targets = np.zeros(len(values), int) if target is None else tokens(target).any(-1).sum(1)
    return np.asarray(visible.sum(1)), np.asarray(targets)


def _check_profile(profile: Any, shape: tuple[int, ...], where: str) -> None:
  """Raises SchemaError unless it is a Profile of days of this shape; `where` begins the message."""
  if not isinstance(profile, Profile):
    raise SchemaError(f"{where}: profile is a {type(profile).__name__}, expected a Profile")
  for name, array, kinds in (("mean", profile.mean, "f"), ("days", profile.days, "iu")):
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype.kind not in kinds:
      found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
      expected = "floats" if name == "mean" else "whole numbers"
      raise SchemaError(f"{where}: profile's {name} is {found}, expected {expected} {shape}")
