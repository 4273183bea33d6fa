"""From config values to the objects they set: the first of the two hops a reader makes."""

from __future__ import annotations

import difflib
import json
import pathlib
import runpy
from collections.abc import Iterator
from typing import Any

import ml_collections

from aim import devices
from aim.attention import choose
from aim.dino import Dino
from aim.interpolation import IMPUTATIONS
from aim.masking import STRATEGIES, Masking
from aim.model import DECODER_TOKENS, Architecture, Projection, Tower
from aim.msn import Msn
from aim.simclr import Simclr
from aim.sizes import FORMS
from aim.views import Changes, Crop
from data_pipelines.schema import Schema, UserError

METHODS = ("mae", "simclr", "dino", "msn")


class ConfigError(UserError):
  """A config value that cannot be used."""


def load(path: str) -> ml_collections.ConfigDict:
  """What get_config() of a Python file returns."""
  if not pathlib.Path(path).is_file():
    raise ConfigError(f"--config={path}: no such file")
  try:
    found = runpy.run_path(path)
    config = found["get_config"]() if "get_config" in found else None
  except Exception as error:  # whatever a file of Python can do wrong
    raise ConfigError(f"--config={path}: {type(error).__name__}: {error}") from None
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(f"--config={path}: has no get_config() that returns an ml_collections.ConfigDict")
  return config


def simulated_name(data: ml_collections.ConfigDict) -> str:
  """Of the dataset that holds the simulated cohort of config.data."""
  return f"simulated_{data.participants}x{data.days}_seed{data.seed}"


def architecture(config: ml_collections.ConfigDict, schema: Schema) -> Architecture:
  """config.model on a schema."""
  raw = config.model
  patch = steps(raw.patch_minutes, schema, "config.model.patch_minutes")
  if schema.steps % patch:
    raise ConfigError(f"config.model.patch_minutes is {raw.patch_minutes}: a day is not a whole number of such patches")
  group = int(raw.get("patch_channels", 1))
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
    attention=choose(
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
  """config.form; for "auto" the one that measured fastest with the attention in use (BUILD_NOTES.md)."""
  if config.form not in FORMS:
    raise ConfigError(f"config.form is {config.form!r}, expected one of {', '.join(FORMS)}")
  if not 1 <= config.sizes <= 6:
    raise ConfigError(f"config.sizes is {config.sizes}, expected 1 to 6")
  if config.form != "auto":
    return str(config.form)
  return "packed" if a.attention == "native" else "trimmed"


def masking(config: ml_collections.ConfigDict, schema: Schema) -> Masking:
  """config.masking on a schema."""
  raw = config.masking
  for name, ratio in (("random", raw.random.ratio), ("temporal", raw.temporal.ratio), ("sensor", raw.sensor.ratio)):
    if not 0 < ratio < 1:
      raise ConfigError(f"config.masking.{name}.ratio is {ratio}, expected a share between 0 and 1")
  if not 0 <= raw.min_observed_share <= 1:
    raise ConfigError(f"config.masking.min_observed_share is {raw.min_observed_share}, expected 0 to 1")
  patch = steps(config.model.patch_minutes, schema, "config.model.patch_minutes")
  # Masks are drawn on folded channels (aim/patches.py), in which a step is as many as a patch has channels.
  group = int(config.model.get("patch_channels", 1))
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
  """config.method."""
  name = config.get("method", "mae")
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


def view_method(config: ml_collections.ConfigDict, a: Architecture) -> Simclr | Dino | Msn:
  """config.views as crops and loss of config.method."""
  raw = config.views
  for key in ("global_share", "local_share"):
    if not 0 < raw[key] <= 1:
      raise ConfigError(f"config.views.{key} is {raw[key]}, expected a share above 0, at most 1")
  for key in ("temperature", "teacher_temperature"):
    if not raw[key] > 0:
      raise ConfigError(f"config.views.{key} is {raw[key]}, expected above 0")
  for key in ("mask_ratio", "momentum"):
    if not 0 <= raw[key] < 1:
      raise ConfigError(f"config.views.{key} is {raw[key]}, expected 0 to less than 1")
  name = method(config)
  if name != "simclr" and config.optimizer.ema:
    raise ConfigError(
      f"config.optimizer.ema is {config.optimizer.ema}, expected 0 for {name}: its teacher is an average of the "
      "parameters already, see config.views.momentum"
    )
  long, short = (max(1, round(raw[key] * a.length)) for key in ("global_share", "local_share"))
  small = (Crop(raw.local, short),) if raw.local else ()
  if name == "simclr":
    if config.batch_size < 2:
      raise ConfigError(f"config.batch_size is {config.batch_size}, expected at least 2 for simclr: days to tell apart")
    return Simclr((Crop(2, long),), raw.temperature)
  if name == "dino":
    return Dino((Crop(2, long), *small), raw.temperature, raw.teacher_temperature)
  masked = Crop(1, long, 1 - raw.mask_ratio)
  return Msn((Crop(1, long), masked, *small), raw.temperature, raw.teacher_temperature, raw.mean_entropy)


def view_changes(config: ml_collections.ConfigDict, schema: Schema) -> Changes:
  """config.views as what views differ in."""
  raw = config.views
  for key in ("channel_dropout", "scale"):
    if not 0 <= raw[key] < 1:
      raise ConfigError(f"config.views.{key} is {raw[key]}, expected 0 to less than 1")
  for key in ("shift_minutes", "jitter", "cutouts", "cutout_minutes", "local"):
    if raw[key] < 0:
      raise ConfigError(f"config.views.{key} is {raw[key]}, expected 0 or more")
  count = lambda minutes: round(minutes / schema.minutes_per_step)
  shift, cutout = count(raw.shift_minutes), count(raw.cutout_minutes)
  return Changes(shift, raw.jitter, raw.scale, raw.channel_dropout, raw.cutouts, cutout)


def imputation(config: ml_collections.ConfigDict) -> str:
  """config.data.impute."""
  impute = config.data.get("impute", "none")
  if impute not in IMPUTATIONS:
    raise ConfigError(f"config.data.impute is {impute!r}, expected one of {', '.join(IMPUTATIONS)}")
  return str(impute)


def subset(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """config.data as arguments of data_pipelines.subset.chosen_days; what older configs do not have is without limit."""
  return {
    key: config.data.get(key, without)
    for key, without in (("max_missing", 1.0), ("max_participants", 0), ("max_days", 0))
  }


def steps(minutes: float, schema: Schema, key: str) -> int:
  """Minutes as a whole number of the schema's steps; ConfigError naming `key` otherwise."""
  count = minutes / schema.minutes_per_step
  if count < 1 or count != int(count):
    raise ConfigError(f"{key} is {minutes}, expected a multiple of the data's {schema.minutes_per_step} minutes a step")
  return int(count)


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The config as plain JSON values."""
  return json.loads(config.to_json_best_effort())


def write(config: ml_collections.ConfigDict, path: pathlib.Path) -> None:
  """The resolved config as JSON, whole or not at all."""
  fresh = path.with_name(f"{path.name}.new")
  fresh.write_text(json.dumps(to_dict(config), indent=2) + "\n")
  fresh.replace(path)


def read(path: pathlib.Path) -> ml_collections.ConfigDict:
  """The config that a run left as config.json."""
  try:
    return ml_collections.ConfigDict(json.loads(path.read_text()))
  except FileNotFoundError:
    raise ConfigError(f"{path}: no such file; expected the workdir of a run, or --config=...") from None
  except (ValueError, TypeError) as error:
    raise ConfigError(f"{path}: not the JSON of a config: {error}") from None


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """("model.encoder.width", 64), ... for every value of a nested config."""
  for key, value in config.items():
    if isinstance(value, dict | ml_collections.ConfigDict):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def check_keys(config: ml_collections.ConfigDict, overrides: list[str]) -> None:
  """ConfigError for an override ("model.widht") that is no key of the config, naming the nearest one."""
  known = [key for key, _ in leaves(config)]
  groups = {key.rsplit(".", i)[0] for key in known for i in range(1, key.count(".") + 1)}
  for key in overrides:
    if key in known:
      continue
    if key in groups:
      raise ConfigError(
        f"--config.{key}: is a group of keys, such as --config.{next(k for k in known if k.startswith(key + '.'))}"
      )
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise ConfigError(f"--config.{key}: no such config key; the nearest is --config.{near[0]}")


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
  """(key, ours, theirs) for every value in which two configs differ."""
  a, b = dict(leaves(ours)), dict(leaves(theirs))
  return [(key, a.get(key), b.get(key)) for key in sorted(a | b) if a.get(key) != b.get(key)]
