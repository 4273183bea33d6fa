"""Reads and checks every key of config.model and config.masking, and makes the objects of this room from them.

A value takes two hops: it is read here and becomes a plain field of an object, which the other modules use.
"""

from __future__ import annotations

import ml_collections

from aim.common.config_files import ConfigError
from aim.model.attention.backends import choose_backend
from aim.model.buffer_sizes import FORMS
from aim.model.interpolation import IMPUTATIONS
from aim.model.lsm2 import DECODER_TOKENS, Architecture, Projection, Tower
from aim.model.masking import STRATEGIES, Masking
from aim.runtime import devices
from data_pipelines.schema import Schema

METHODS = ("mae", "simclr", "dino", "msn")


def architecture(config: ml_collections.ConfigDict, schema: Schema) -> Architecture:
  """The architecture that config.model describes, for days of this schema.

  Raises:
    ConfigError: if a value is out of its range or does not fit the schema.
  """
  raw = config.model
  patch = steps(raw.patch_minutes, schema, "config.model.patch_minutes")
  if schema.steps % patch:
    raise ConfigError(f"config.model.patch_minutes is {raw.patch_minutes}: a day is not a whole number of such patches")
  group = raw.patch_channels
  if group < 1:
    raise ConfigError(f"config.model.patch_channels is {group}, expected at least 1")
  for name in ("encoder", "decoder"):
    width, heads = raw[name].width, raw[name].heads
    if min(width, heads) < 1 or width % heads or width % 4:
      raise ConfigError(f"config.model.{name}.width is {width}, expected a multiple of 4 and of its {heads} heads")
  kinds = ", ".join(DECODER_TOKENS)
  if raw.decoder.tokens not in DECODER_TOKENS:
    raise ConfigError(f"config.model.decoder.tokens is {raw.decoder.tokens!r}, expected one of {kinds}")
  dtype = _dtype(raw.dtype)
  tower = lambda raw: Tower(width=raw.width, mlp=raw.mlp, heads=raw.heads, layers=raw.layers)
  return Architecture(
    channels=len(schema.channels),
    length=schema.steps // patch,
    patch=patch,
    patch_channels=group,
    projection=_projection(config),
    encoder=tower(raw.encoder),
    decoder=tower(raw.decoder),
    observed_flags=raw.observed_flags,
    interpolation_skip=raw.interpolation_skip,
    qk_init=float(raw.qk_init),
    binary=tuple(schema.binary.tolist()),
    decoder_tokens=raw.decoder.tokens,
    attention=choose_backend(
      raw.attention, (raw.encoder.width // raw.encoder.heads, raw.decoder.width // raw.decoder.heads), dtype
    ),
    dtype=dtype,
    remat=raw.remat,
  )


def _dtype(name: str) -> str:
  if name == "auto":
    return "float32" if devices.platform() == "cpu" else "bfloat16"
  if name not in ("float32", "bfloat16"):
    raise ConfigError(f"config.model.dtype is {name!r}, expected 'auto', 'float32' or 'bfloat16'")
  return name


def form(config: ml_collections.ConfigDict, a: Architecture) -> str:
  """config.form; for "auto" the form measured fastest with the attention in use (docs/results/step_speed.md)."""
  if config.form not in FORMS:
    raise ConfigError(f"config.form is {config.form!r}, expected one of {', '.join(FORMS)}")
  if not 1 <= config.sizes <= 6:
    raise ConfigError(f"config.sizes is {config.sizes}, expected 1 to 6")
  if config.form != "auto":
    return str(config.form)
  return "packed" if a.attention == "native" else "trimmed"


def masking(config: ml_collections.ConfigDict, schema: Schema) -> Masking:
  """The masks that config.masking describes, for days of this schema. aim/model/masking.py draws them.

  Raises:
    ConfigError: if a value is out of its range or does not fit the schema.
  """
  raw = config.masking
  for name, ratio in (("random", raw.random.ratio), ("temporal", raw.temporal.ratio), ("sensor", raw.sensor.ratio)):
    if not 0 < ratio < 1:
      raise ConfigError(f"config.masking.{name}.ratio is {ratio}, expected a share between 0 and 1")
  if not 0 <= raw.min_observed_share <= 1:
    raise ConfigError(f"config.masking.min_observed_share is {raw.min_observed_share}, expected 0 to 1")
  patch = steps(config.model.patch_minutes, schema, "config.model.patch_minutes")
  # Masks are drawn on folded channels (patches.fold), in which a step has one value per channel of a patch.
  group = config.model.patch_channels
  rest = len(schema.channels) % group / group
  if rest and raw.min_observed_share > rest:
    raise ConfigError(
      f"config.masking.min_observed_share is {raw.min_observed_share}: the last of the groups of {group} channels has "
      f"{len(schema.channels) % group}, so its patches would never be observed; expected at most {rest:.2g}"
    )
  unit = patch
  if raw.random.unit_minutes:
    unit = steps(raw.random.unit_minutes, schema, "config.masking.random.unit_minutes")
    if patch % unit:
      raise ConfigError(f"config.masking.random.unit_minutes is {raw.random.unit_minutes}: does not divide the patch")
  block = max(1, round(raw.temporal.block_minutes / schema.minutes_per_step / patch))
  shortest = max(1, round(raw.gaps.shortest_minutes / schema.minutes_per_step))
  longest = max(shortest, round(raw.gaps.longest_minutes / schema.minutes_per_step))
  return Masking(
    weights=tuple(float(raw[name].weight) for name in STRATEGIES),  # type: ignore[arg-type]
    random_ratio=raw.random.ratio,
    random_unit=unit * group if unit != patch else 0,
    temporal_ratio=raw.temporal.ratio,
    temporal_block=block,
    sensor_ratio=raw.sensor.ratio,
    gap_steps=(shortest * group, longest * group),
    gap_count=raw.gaps.count,
    min_observed_share=raw.min_observed_share,
  )


def method(config: ml_collections.ConfigDict) -> str:
  """config.method, one of METHODS."""
  name = config.method
  if name not in METHODS:
    raise ConfigError(f"config.method is {name!r}, expected one of {', '.join(METHODS)}")
  return str(name)


def _projection(config: ml_collections.ConfigDict) -> Projection | None:
  name = method(config)
  if name == "mae":
    return None
  raw = config.views
  for key, least in (("hidden", 1), ("width", 1), ("layers", 1)):
    if raw.projection[key] < least:
      raise ConfigError(f"config.views.projection.{key} is {raw.projection[key]}, expected at least {least}")
  if name != "simclr" and raw.prototypes < 2:
    raise ConfigError(f"config.views.prototypes is {raw.prototypes}, expected at least 2 for {name}")
  return Projection(**raw.projection, prototypes=0 if name == "simclr" else raw.prototypes)


def imputation(config: ml_collections.ConfigDict) -> str:
  """config.data.impute, one of IMPUTATIONS."""
  impute = config.data.impute
  if impute not in IMPUTATIONS:
    raise ConfigError(f"config.data.impute is {impute!r}, expected one of {', '.join(IMPUTATIONS)}")
  return str(impute)


def steps(minutes: float, schema: Schema, key: str) -> int:
  """Converts minutes to steps of the schema.

  Raises:
    ConfigError: naming `key`, if that is not a whole number of at least 1.
  """
  count = minutes / schema.minutes_per_step
  if count < 1 or count != int(count):
    raise ConfigError(
      f"{key} is {minutes}, expected a multiple of the data's {schema.minutes_per_step} minutes per step"
    )
  return int(count)
