"""Settings of JAX, from the environment or a program, that would change results without anybody being told."""

from __future__ import annotations

import jax

from data_pipelines.errors import UserError

# What every result of this project is computed with. Models are checked against digests of their arrays' bits, and
# masks are a function of the seed and the step: another type of numbers or another generator makes them others.
NEEDED = {"jax_enable_x64": False, "jax_threefry_partitionable": True, "jax_default_prng_impl": "threefry2x32"}


def check() -> None:
  """Refuses settings with which masks, losses and stored arrays would not be those of other runs.

  Raises:
    UserError: a setting is another one; the message names its environment variable.
  """
  for name, needed in NEEDED.items():
    if (found := getattr(jax.config, name)) != needed:
      raise UserError(
        f"JAX's setting {name} is {found}, expected {needed}, with which all results are computed: "
        f"unset {name.upper()}, or do not change it with jax.config.update"
      )
