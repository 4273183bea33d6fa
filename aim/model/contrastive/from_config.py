"""Reads every key of config.views, and makes the objects of this room from them."""

from __future__ import annotations

import ml_collections

from aim.common.config_files import ConfigError
from aim.model.contrastive.dino import Dino
from aim.model.contrastive.msn import Msn
from aim.model.contrastive.simclr import Simclr
from aim.model.contrastive.views import Changes, Crop
from aim.model.lsm2 import Architecture
from data_pipelines.schema import Schema


def view_method(config: ml_collections.ConfigDict, a: Architecture) -> Simclr | Dino | Msn:
  """The contrastive method named by config.method, with the crops and loss settings of config.views."""
  raw = config.views
  name = config.method
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
  """The changes that config.views applies to days."""
  raw = config.views
  count = lambda minutes: round(minutes / schema.minutes_per_step)
  shift, cutout = count(raw.shift_minutes), count(raw.cutout_minutes)
  return Changes(shift, raw.jitter, raw.scale, raw.channel_dropout, raw.cutouts, cutout)
