"""AIM and the LSM-2 model as pure functions, in the order in which a day passes through them.

| file | a day's way |
|---|---|
| `patches` | normalises days; a minute the sensor lost becomes 0 and `observed` False; cuts them into patches |
| `masking` | decides which tokens are inherited-missing, hidden, visible and target: `training_token_set` |
| `buffer_sizes`, `token_buffers` | how many slots a step computes on, and which token is in which slot |
| `lsm2` | encoder and decoder, built from `layers`, `attention`, `positions` and `interpolation_skip` |
| `loss` | the error of the target values, so that lost minutes are neither read nor scored |
| `contrastive` | SimCLR, DINO and MSN on the same encoder |
| `from_config` | reads every key of config.model and config.masking, such as `masking.random.ratio` |
| `defaults` | the default of each of these keys |

Only the `from_config` modules know config files; all others take plain values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aim.runtime.lazy_exports import lazy_getattr

if TYPE_CHECKING:
  from aim.model.buffer_sizes import BufferSizes
  from aim.model.lsm2 import Architecture, Encoder, Lsm2, Projection, Projector, Tower, count_parameters
  from aim.model.masking import Masking, TokenSet, evaluation_token_set, training_token_set
  from aim.model.patches import Scale, normalised_days
  from aim.model.token_buffers import TokenBuffer, move

__all__ = [
  "Architecture",
  "BufferSizes",
  "Encoder",
  "Lsm2",
  "Masking",
  "Projection",
  "Projector",
  "Scale",
  "TokenBuffer",
  "TokenSet",
  "Tower",
  "count_parameters",
  "evaluation_token_set",
  "move",
  "normalised_days",
  "training_token_set",
]

_MODULES = {
  "Architecture": "lsm2",
  "BufferSizes": "buffer_sizes",
  "Encoder": "lsm2",
  "Lsm2": "lsm2",
  "Masking": "masking",
  "Projection": "lsm2",
  "Projector": "lsm2",
  "Scale": "patches",
  "TokenBuffer": "token_buffers",
  "TokenSet": "masking",
  "Tower": "lsm2",
  "count_parameters": "lsm2",
  "evaluation_token_set": "masking",
  "move": "token_buffers",
  "normalised_days": "patches",
  "training_token_set": "masking",
}

# Lazy, because importing jax takes seconds, and flags are checked before: experiments import aim.model.defaults.
__getattr__ = lazy_getattr(__name__, _MODULES)
