"""Reads and checks every key of config.model and config.masking, and makes the objects of this room from them.

A value takes two hops: it is read here and becomes a plain field of an object, which the other modules use.
"""

from __future__ import annotations

import math

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
  model_keys = config.model
  patch = steps(model_keys.patch_minutes, schema, "config.model.patch_minutes")
  if schema.steps % patch:
    raise ConfigError(
      f"config.model.patch_minutes is {model_keys.patch_minutes}: a day is not a whole number of such patches"
    )
  group = model_keys.patch_channels
  if group < 1:
    raise ConfigError(f"config.model.patch_channels is {group}, expected at least 1")
  for name in ("encoder", "decoder"):
    width, heads = model_keys[name].width, model_keys[name].heads
    if min(width, heads) < 1 or width % heads or width % 4:
      raise ConfigError(f"config.model.{name}.width is {width}, expected a multiple of 4 and of its {heads} heads")
  kinds = ", ".join(DECODER_TOKENS)
  if model_keys.decoder.tokens not in DECODER_TOKENS:
    raise ConfigError(f"config.model.decoder.tokens is {model_keys.decoder.tokens!r}, expected one of {kinds}")
  encoder, decoder = _tower(model_keys.encoder), _tower(model_keys.decoder)
  dtype = _dtype(model_keys.dtype)
  return Architecture(
    channels=len(schema.channels),
    length=schema.steps // patch,
    patch=patch,
    patch_channels=group,
    projection=_projection(config),
    encoder=encoder,
    decoder=decoder,
    observed_flags=model_keys.observed_flags,
    interpolation_skip=model_keys.interpolation_skip,
    qk_init=float(model_keys.qk_init),
    binary=tuple(schema.binary.tolist()),
    decoder_tokens=model_keys.decoder.tokens,
    attention=choose_backend(
      model_keys.attention, (encoder.width // encoder.heads, decoder.width // decoder.heads), dtype
    ),
    dtype=dtype,
    remat=model_keys.remat,
  )


def _tower(tower_keys: ml_collections.ConfigDict) -> Tower:
  return Tower(width=tower_keys.width, mlp=tower_keys.mlp, heads=tower_keys.heads, layers=tower_keys.layers)


def _dtype(name: str) -> str:
  if name == "auto":
    return "float32" if devices.platform() == "cpu" else "bfloat16"
  if name not in ("float32", "bfloat16"):
    raise ConfigError(f"config.model.dtype is {name!r}, expected 'auto', 'float32' or 'bfloat16'")
  return name


def form(config: ml_collections.ConfigDict, a: Architecture) -> str:
  """config.form; for "auto" the form measured fastest with the attention in use (docs/results/step_speed.md).

  Also checks config.sizes, the number of buffer sizes that the forms compile the step for.

  Raises:
    ConfigError: if config.form is none of FORMS or config.sizes is not 1 to 6.
  """
  if config.form not in FORMS:
    raise ConfigError(f"config.form is {config.form!r}, expected one of {', '.join(FORMS)}")
  if not 1 <= config.sizes <= 6:
    raise ConfigError(f"config.sizes is {config.sizes}, expected 1 to 6")
  if config.form != "auto":
    return str(config.form)
  return "packed" if a.attention == "native" else "trimmed"


def masking(config: ml_collections.ConfigDict, schema: Schema) -> Masking:
  """The masks that config.masking describes, for days of this schema. aim/model/masking.py draws them.

  So that one config fits data with other steps, temporal.block_minutes is rounded to the nearest number of patches and
  the lengths of gaps to the nearest number of steps. They must not round to 0, but for a block of 0 minutes, which
  stands for independent patches, and for gaps with weight 0.

  Raises:
    ConfigError: if a value is out of its range or does not fit the schema.
  """
  masking_keys = config.masking
  for name in ("random", "temporal", "sensor"):
    ratio = masking_keys[name].ratio
    if not 0 < ratio < 1:
      raise ConfigError(f"config.masking.{name}.ratio is {ratio}, expected a share between 0 and 1")
  if not 0 <= masking_keys.min_observed_share <= 1:
    raise ConfigError(f"config.masking.min_observed_share is {masking_keys.min_observed_share}, expected 0 to 1")
  patch = steps(config.model.patch_minutes, schema, "config.model.patch_minutes")
  # Masks are drawn on folded channels (patches.fold), in which a step has one value per channel of a patch.
  group = config.model.patch_channels
  rest = len(schema.channels) % group / group
  if rest and masking_keys.min_observed_share > rest:
    raise ConfigError(
      f"config.masking.min_observed_share is {masking_keys.min_observed_share}: the last of the groups of {group} "
      f"channels has {len(schema.channels) % group}, so its patches would never be observed; "
      f"expected at most {rest:.2g}"
    )
  unit = patch
  unit_minutes = masking_keys.random.unit_minutes
  if unit_minutes:
    unit = steps(unit_minutes, schema, "config.masking.random.unit_minutes")
    if patch % unit:
      raise ConfigError(f"config.masking.random.unit_minutes is {unit_minutes}: does not divide the patch")
  shortest, longest = _gap_steps(masking_keys.gaps, schema)
  masks = Masking(
    weights=_weights(masking_keys),
    random_ratio=masking_keys.random.ratio,
    random_unit=unit * group if unit != patch else 0,
    temporal_ratio=masking_keys.temporal.ratio,
    temporal_block=_block_patches(masking_keys.temporal.block_minutes, patch * schema.minutes_per_step),
    sensor_ratio=masking_keys.sensor.ratio,
    gap_steps=(shortest * group, longest * group),
    gap_count=masking_keys.gaps.count,
    min_observed_share=masking_keys.min_observed_share,
  )
  channel_groups = -(-len(schema.channels) // group)
  if not masks.strategies_in_use(channel_groups):
    weights = ", ".join(f"{name} {weight}" for name, weight in zip(STRATEGIES, masks.weights, strict=True))
    reason = "; sensor has nothing to predict a single channel or group from" if channel_groups == 1 else ""
    raise ConfigError(f"config.masking: the weights are {weights}, expected one above 0{reason}")
  return masks


def _weights(masking_keys: ml_collections.ConfigDict) -> tuple[float, float, float, float]:
  for name in STRATEGIES:
    weight = masking_keys[name].weight
    if not 0 <= weight < math.inf:
      raise ConfigError(f"config.masking.{name}.weight is {weight}, expected a finite number, 0 or more")
  return tuple(float(masking_keys[name].weight) for name in STRATEGIES)  # type: ignore[return-value]


def _block_patches(minutes: float, patch_minutes: int) -> int:
  """The length of temporal's blocks in patches."""
  key = "config.masking.temporal.block_minutes"
  if not 0 <= minutes < math.inf:
    raise ConfigError(f"{key} is {minutes}, expected a finite number, 0 or more")
  patches = round(minutes / patch_minutes)
  if minutes and not patches:
    raise ConfigError(
      f"{key} is {minutes}, expected 0 (independent patches) or what rounds to a patch of {patch_minutes} minutes "
      "or more"
    )
  return max(1, patches)


def _gap_steps(gap_keys: ml_collections.ConfigDict, schema: Schema) -> tuple[int, int]:
  """The shortest and the longest gap, in steps."""
  for name in ("shortest_minutes", "longest_minutes"):
    minutes = gap_keys[name]
    if not 0 < minutes < math.inf:
      raise ConfigError(f"config.masking.gaps.{name} is {minutes}, expected a finite number above 0")
    if gap_keys.weight and not round(minutes / schema.minutes_per_step):
      raise ConfigError(
        f"config.masking.gaps.{name} is {minutes}, expected what rounds to a step of the data's "
        f"{schema.minutes_per_step} minutes or more"
      )
  if gap_keys.longest_minutes < gap_keys.shortest_minutes:
    raise ConfigError(
      f"config.masking.gaps.longest_minutes is {gap_keys.longest_minutes}, expected at least "
      f"config.masking.gaps.shortest_minutes, {gap_keys.shortest_minutes}"
    )
  if gap_keys["count"] < 1:
    raise ConfigError(f"config.masking.gaps.count is {gap_keys['count']}, expected at least 1")
  to_steps = lambda minutes: max(1, round(minutes / schema.minutes_per_step))
  return to_steps(gap_keys.shortest_minutes), to_steps(gap_keys.longest_minutes)


def method(config: ml_collections.ConfigDict) -> str:
  """config.method, one of METHODS.

  Raises:
    ConfigError: if it is none of them.
  """
  name = config.method
  if name not in METHODS:
    raise ConfigError(f"config.method is {name!r}, expected one of {', '.join(METHODS)}")
  return str(name)


def _projection(config: ml_collections.ConfigDict) -> Projection | None:
  name = method(config)
  if name == "mae":
    return None
  view_keys = config.views
  for key, least in (("hidden", 1), ("width", 1), ("layers", 1)):
    if view_keys.projection[key] < least:
      raise ConfigError(f"config.views.projection.{key} is {view_keys.projection[key]}, expected at least {least}")
  if name != "simclr" and view_keys.prototypes < 2:
    raise ConfigError(f"config.views.prototypes is {view_keys.prototypes}, expected at least 2 for {name}")
  return Projection(**view_keys.projection, prototypes=0 if name == "simclr" else view_keys.prototypes)


def imputation(config: ml_collections.ConfigDict) -> str:
  """config.data.impute, one of IMPUTATIONS.

  Raises:
    ConfigError: if it is none of them.
  """
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
  if not 1 <= count < math.inf or count != int(count):
    raise ConfigError(
      f"{key} is {minutes}, expected a multiple of the data's {schema.minutes_per_step} minutes per step"
    )
  return int(count)
