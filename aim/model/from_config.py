"""Reads every key of config.model and config.masking, and makes the objects of this room from them.

The range of each key is in aim/model/defaults.py; what must fit the data or another key is checked here.

A value takes two hops: it is read here and becomes a plain field of an object, which the other modules use.
"""

from __future__ import annotations

from collections.abc import Sequence

import ml_collections

from aim.common import config_ranges
from aim.common.config_files import ConfigError
from aim.model.attention.backends import PACKED, choose_backend
from aim.model.defaults import RANGES
from aim.model.lsm2 import Architecture, Projection, Tower
from aim.model.masking import STRATEGIES, Masking
from aim.runtime import devices
from data_pipelines.channels import vocabulary
from data_pipelines.schema import Schema


def architecture(config: ml_collections.ConfigDict, schema: Schema) -> Architecture:
  """The architecture that config.model describes, for days of this schema.

  Raises:
    ConfigError: if a value is out of its range or does not fit the schema.
  """
  config_ranges.check(config, RANGES)
  model_keys = config.model
  patch = steps(model_keys.patch_minutes, schema, "config.model.patch_minutes")
  if schema.steps % patch:
    raise ConfigError(
      f"config.model.patch_minutes is {model_keys.patch_minutes}: a day is not a whole number of such patches"
    )
  group = model_keys.patch_channels
  for name in ("encoder", "decoder"):
    width, heads = model_keys[name].width, model_keys[name].heads
    if width % heads or width % 4:
      raise ConfigError(f"config.model.{name}.width is {width}, expected a multiple of 4 and of its {heads} heads")
  encoder, decoder = _tower(model_keys.encoder), _tower(model_keys.decoder)
  dtype = _dtype(model_keys.dtype)
  return Architecture(
    channels=len(schema.channels),
    length=schema.steps // patch,
    patch=patch,
    places=places(config, schema),
    patch_channels=group,
    projection=_projection(config),
    encoder=encoder,
    decoder=decoder,
    observed_flags=model_keys.observed_flags,
    interpolation_skip=model_keys.interpolation_skip,
    skip_evidence=model_keys.skip_evidence,
    evidence_embedding=model_keys.evidence_embedding,
    context_days=context_days(config),
    qk_init=float(model_keys.qk_init),
    binary=tuple(schema.binary.tolist()),
    decoder_tokens=model_keys.decoder.tokens,
    attention=choose_backend(
      model_keys.attention, (encoder.width // encoder.heads, decoder.width // decoder.heads), dtype
    ),
    dtype=dtype,
    remat=model_keys.remat,
    scan_layers=model_keys.scan_layers,
  )


def context_days(config: ml_collections.ConfigDict) -> int:
  """config.model.context_days.

  Raises:
    ConfigError: it is above 0 in a model that has no place for it.
  """
  days = int(config.model.context_days)
  if days and (config.method != "mae" or not config.model.interpolation_skip):
    missing = f"method {config.method!r}" if config.method != "mae" else "no interpolation skip"
    raise ConfigError(
      f"config.model.context_days is {days}, expected 0 with {missing}; it needs config.method='mae' and "
      "config.model.interpolation_skip=True"
    )
  return days


def places(config: ml_collections.ConfigDict, schema: Schema) -> tuple[int, ...]:
  """The number that stands for each channel, or group of channels, in the position code.

  Raises:
    ConfigError: config.model.places does not fit the schema.
  """
  chosen, group = config.model.places, config.model.patch_channels
  in_order = tuple(range(-(-len(schema.channels) // group)))
  if chosen == "schema" or tuple(chosen) == in_order:
    return in_order
  if chosen == "vocabulary":
    chosen = [vocabulary_place(config, name) for name in schema.names]
  if group > 1:
    raise ConfigError(
      f"config.model.places is {chosen!r} and config.model.patch_channels {group}, expected places='schema': a patch "
      "of several channels has no place of its own"
    )
  if len(chosen) != len(in_order):
    raise ConfigError(
      f"config.model.places has {len(chosen)} places, expected one for each of {len(in_order)} channels"
    )
  for place in chosen:
    same = [name for name, other in zip(schema.names, chosen, strict=True) if other == place]
    if len(same) > 1:
      raise ConfigError(
        f"config.model.places gives {place} to channels {' and '.join(same)}, expected another for each"
      )
  return tuple(chosen)


def vocabulary_place(config: ml_collections.ConfigDict, name: str) -> int:
  """A channel's place in the vocabulary, which config.data.vocabulary extends.

  Raises:
    ConfigError: the channel is not in it.
  """
  entry = vocabulary.load(config.data.vocabulary).find(name)
  if entry is None:
    file = config.data.vocabulary
    remedy = (
      "add it there" if file else "add it to a vocabulary of your own and name the file in config.data.vocabulary"
    )
    raise ConfigError(
      f"config.model.places is 'vocabulary', and channel {name!r} is not in {file or 'the shipped one'}; {remedy}"
    )
  return entry.place


def with_places(config: ml_collections.ConfigDict, chosen: tuple[int, ...]) -> ml_collections.ConfigDict:
  """A copy of a config with these places, whatever they are called in it."""
  config = config.copy_and_resolve_references()
  with config.ignore_type():
    config.model.places = chosen
  return config


def _tower(tower_keys: ml_collections.ConfigDict) -> Tower:
  return Tower(width=tower_keys.width, mlp=tower_keys.mlp, heads=tower_keys.heads, layers=tower_keys.layers)


def _dtype(name: str) -> str:
  if name == "auto":
    return "float32" if devices.platform() == "cpu" else "bfloat16"
  return name


def form(config: ml_collections.ConfigDict, a: Architecture) -> str:
  """config.form; for "auto" packed where attention has a kernel for that (docs/results: step_speed, accelerators)."""
  if config.form != "auto":
    return str(config.form)
  return "packed" if a.attention in PACKED else "trimmed"


def masking(config: ml_collections.ConfigDict, schema: Schema) -> Masking:
  """The masks that config.masking describes, for days of this schema. aim/model/masking.py draws them.

  So that one config fits data with other steps, temporal.block_minutes is rounded to the nearest number of patches and
  the lengths of gaps to the nearest number of steps. They must not round to 0, but for a block of 0 minutes, which
  stands for independent patches, and for gaps with weight 0.

  Raises:
    ConfigError: if a value is out of its range or does not fit the schema.
  """
  config_ranges.check(config, RANGES)
  masking_keys = config.masking
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
    weights=tuple(float(masking_keys[name].weight) for name in STRATEGIES),  # type: ignore[arg-type]
    random_ratio=masking_keys.random.ratio,
    random_unit=unit * group if unit != patch else 0,
    temporal_ratio=masking_keys.temporal.ratio,
    temporal_block=_block_patches(masking_keys.temporal.block_minutes, patch * schema.minutes_per_step),
    sensor_ratio=masking_keys.sensor.ratio,
    gap_steps=(shortest * group, longest * group),
    gap_count=masking_keys.gaps.count,
    min_observed_share=masking_keys.min_observed_share,
    any_observed=_any_observed(masking_keys.any_observed, schema, group),
    drop_ratio=float(masking_keys.drop_ratio),
  )
  channel_groups = -(-len(schema.channels) // group)
  if not masks.strategies_in_use(channel_groups):
    weights = ", ".join(f"{name} {weight}" for name, weight in zip(STRATEGIES, masks.weights, strict=True))
    reason = "; sensor has nothing to predict a single channel or group from" if channel_groups == 1 else ""
    raise ConfigError(f"config.masking: the weights are {weights}, expected one above 0{reason}")
  return masks


def _any_observed(names: Sequence[str], schema: Schema, group: int) -> tuple[bool, ...]:
  """Masking.any_observed."""
  key = "config.masking.any_observed"
  if unknown := [name for name in names if name not in schema.names]:
    raise ConfigError(f"{key} names channel {unknown[0]!r}, expected some of {', '.join(schema.names)}")
  if names and group > 1:
    raise ConfigError(f"{key} is {tuple(names)!r}, expected () where a patch is of {group} channels")
  return tuple(name in names for name in schema.names) if names else ()


def _block_patches(minutes: float, patch_minutes: int) -> int:
  """The length of temporal's blocks in patches."""
  key = "config.masking.temporal.block_minutes"
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
  to_steps = lambda minutes: max(1, round(minutes / schema.minutes_per_step))
  return to_steps(gap_keys.shortest_minutes), to_steps(gap_keys.longest_minutes)


def _projection(config: ml_collections.ConfigDict) -> Projection | None:
  name = config.method
  if name == "mae":
    return None
  view_keys = config.views
  if name != "simclr" and view_keys.prototypes < 2:
    raise ConfigError(f"config.views.prototypes is {view_keys.prototypes}, expected at least 2 for {name}")
  return Projection(**view_keys.projection, prototypes=0 if name == "simclr" else view_keys.prototypes)


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
