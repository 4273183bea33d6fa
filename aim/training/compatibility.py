"""Configs of other versions: what a missing key stands for, and which unknown ones cannot be passed over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

from aim.common import config_files

# Config keys under `model` that may change on resume: how a step is computed (after a move to another machine, for
# example), and the initial values, which no longer matter.
RESUMABLE_MODEL_KEYS = (
  "model.dtype",
  "model.remat",
  "model.remat_when",
  "model.scan_layers",
  "model.attention",
  "model.qk_init",
)
# Config keys of which a checkpoint depends only on whether they are 0: that decides which arrays there are.
ON_OR_OFF = ("model.context_days", "optimizer.ema")
# Config keys under `model` that change nothing without model.interpolation_skip.
OF_THE_SKIP = ("model.skip_evidence", "model.evidence_embedding")
# Config keys outside `model` that the model's function or the shapes of its parameters depend on.
OTHER_MODEL_KEYS = ("method", "data.impute", "data.clip", "data.zero_is_missing", "views.prototypes")

# Config keys that were added after the first version, with the value that stands for what versions without the key did.
# Such a version's checkpoint gets this value, whatever the default is today. tests/robustness/test_compatibility.py
# refuses a new key of a default config that is not listed here.
MADE_WITH: dict[str, Any] = {
  "name": "LSM-2",
  "method": "mae",
  "form": "auto",
  "sizes": 6,
  "model.patch_channels": 1,
  "model.places": "schema",
  "model.qk_init": 0.0,
  "model.skip_evidence": "line",
  "model.evidence_embedding": "before",
  "model.context_days": 0,
  "model.scan_layers": False,
  "model.remat_when": "always",
  "model.attention": "auto",
  "model.decoder.tokens": "all",
  "masking.any_observed": (),
  "masking.drop_ratio": -1.0,
  "data.vocabulary": "",
  "data.clip": True,
  "data.zero_is_missing": (),
  "init.checkpoint": "",
  "init.parts": "all",
  "init.statistics": "checkpoint",
  "init.learning_rate": 1.0,
  "init.frozen": (),
  "data.mix": (),
  "data.minutes_per_step": 0,
  "data.on_changed_mix": "stop",
  "data.impute": "none",
  "data.max_missing": 1.0,
  "data.max_participants": 0,
  "data.max_days": 0,
  "data.on_corrupt": "stop",
  "data.simulate": False,
  "mesh.slices": 1,
  "impute.short_holes": "decode",
  "evaluate_every": 0,
  "evaluate_days": 256,
  "log.profile_steps": "",
}


def completed(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
  rooms: Iterable[ml_collections.ConfigDict],
  where: str,
  tell_missing: bool = True,
) -> ml_collections.ConfigDict:
  """A config that another version wrote, in the keys of this version.

  A missing key gets its value in MADE_WITH, or else its default; unknown keys are reported.

  Args:
    config: what was written.
    rooms: the defaults of the rooms that read it.
    where: names the file in messages.
    tell_missing: whether missing keys are reported too.

  Raises:
    ConfigError: it has a key that this version does not know and that the model's function depends on.
  """
  rooms = list(rooms)
  changing = [key for key in config_files.unknown_keys(config, rooms) if changes_function(key)]
  if changing:
    raise config_files.ConfigError(
      f"{where}: config key {', '.join(changing)} is not known to this version, and the model's function depends on "
      "it; use the version that wrote it, or a later one"
    )
  return config_files.with_defaults(config, rooms, where, MADE_WITH, tell_missing)


def changes_function(key: str) -> bool:
  """True if the model's function, or the shapes of its parameters, depend on a config key."""
  return (
    key in OTHER_MODEL_KEYS
    or key.startswith("views.projection")
    or (key.startswith("model.") and key not in RESUMABLE_MODEL_KEYS)
    or (key.startswith("masking.") and key.count(".") == 1)  # like min_observed_share, which inference reads
  )
