"""A trained model as functions of days in StableHLO, which JAX calls without this package.

    embed.jax     days to embeddings
    impute.jax    days to filled days; not there for a model without a decoder
    model.json    what was written by which versions; clock, channels, units and statistics; what the functions take

The functions take days as users have them, float32 [days, steps, channels] in physical units with NaN for missing, any
number of them. Normalising, masking and the parameters are inside. A function cannot refuse a day, so whatever
Pretrained would refuse comes out as NaN. docs/serve.md shows how they are called.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Bool, Float

from aim.common.config_files import ConfigError
from aim.common.versions import installed_version
from aim.inference.pretrained import Pretrained
from aim.model import lsm2, patches
from aim.model.masking import inherited_missing
from aim.training.trained import exported
from data_pipelines.text_files import json_text

FORMAT = 1
EMBED, IMPUTE, ABOUT = "embed.jax", "impute.jax", "model.json"
FILES = (EMBED, IMPUTE, ABOUT)
PLATFORMS = ("cpu", "cuda", "tpu")
_PACKAGES = ("lsm2-aim", "jax", "jaxlib")


def write(model: Pretrained, folder: str | os.PathLike, overwrite: bool = False) -> None:
  """Writes the functions of a model, whole or not at all.

  Args:
    model: a trained one.
    folder: to be made; its parent is made too.
    overwrite: whether `folder` may be such a folder, which is replaced.

  Raises:
    ConfigError: the folder exists or cannot be written, or the package flatbuffers is missing.
    CheckpointError: the model is one of Pretrained.normalised_by_days.
  """
  target = pathlib.Path(folder).absolute()
  model.check_not_normalised_by_days(f"export to {target}")
  exported.check_target(target, overwrite, FILES)
  check_installed(f"export to {target}")
  model = model.with_plain_attention()
  functions: dict[str, Callable[[Array], Array]] = {EMBED: functools.partial(embedding, model)}
  if model.has_decoder:
    functions[IMPUTE] = functools.partial(filled, model)
  with exported.built_beside(target) as building:
    written = {}
    for name, function in functions.items():
      portable = _lowered(model, function)
      raw = portable.serialize()
      (building / name).write_bytes(raw)
      written[name] = {
        "takes": "float32 [days, steps, channels], NaN where missing",
        "returns": f"float32 {['days', *portable.out_avals[0].shape[1:]]}".replace("'", ""),
        "calling_convention_version": portable.calling_convention_version,
        "platforms": list(portable.platforms),
        "blake2b": hashlib.blake2b(raw, digest_size=16).hexdigest(),
      }
    (building / ABOUT).write_text(json_text(_about(model) | {"functions": written}, indent=2) + "\n")


def check_installed(where: str) -> None:
  """Checks that functions can be written; `where` begins the message.

  Raises:
    ConfigError: flatbuffers is missing, in which jax.export writes them.
  """
  try:
    import flatbuffers  # noqa: F401
  except ImportError:
    raise ConfigError(f"{where}: StableHLO needs the package flatbuffers: pip install 'lsm2-aim[stablehlo]'") from None


def embedding(model: Pretrained, values: Float[Array, "days steps channels"]) -> Float[Array, "days width"]:
  """Pretrained.embed as a pure function; NaN for a day that it refuses."""
  days, accepted = _days(model, values)
  functions = model.functions
  every_token = functions.padded_sizes(functions.architecture.tokens, 1)
  encoded, _, lengths = functions.encode(model.params, days, every_token)
  known = accepted & _readable(model, ~jnp.isnan(days))
  return jnp.where(known[:, None], lsm2.pooled(encoded, lengths), jnp.nan)


def filled(model: Pretrained, values: Float[Array, "days steps channels"]) -> Float[Array, "days steps channels"]:
  """Pretrained.impute as a pure function; NaN for a day that it refuses."""
  days, accepted = _days(model, values)
  missing = jnp.isnan(days)
  functions, tokens = model.functions, model.architecture.tokens
  sizes = functions.padded_sizes(tokens, tokens)
  there, absent = functions.divided_by_presence(days, missing)
  z = functions.decode(model.params, days, there, sizes)
  if model.architecture.decoder_tokens == "present":  # otherwise no target is in `absent`
    others = jax.lax.cond(absent.any(), lambda: functions.decode(model.params, days, absent, sizes), lambda: z)
    z = jnp.where(absent, others, z)
  whole = jnp.where(missing, model.scale.physical(z), days)
  return jnp.where(accepted[:, None, None], whole, jnp.nan)


def _days(
  model: Pretrained, values: Float[Array, "days steps channels"]
) -> tuple[Float[Array, "days steps channels"], Bool[Array, " days"]]:
  """The days with NaN for each 0 that stands for a missing value, and which of them Pretrained accepts."""
  scale = model.scale
  of_its_kind = ~jnp.isinf(values) & (jnp.isnan(values) | (values == 0) | (values == 1) | ~scale.binary)
  return jnp.where((values == 0) & scale.zero_is_missing, jnp.nan, values), of_its_kind.all((1, 2))


def _readable(model: Pretrained, observed: Bool[Array, "days steps channels"]) -> Bool[Array, " days"]:
  """True for each day that has something for the encoder to read."""
  a = model.architecture
  if model.imputes_input:
    return observed.any((1, 2))
  return (~inherited_missing(patches.patchify(observed, a.patch, a.patch_channels), model.masking)).any(1)


def _lowered(model: Pretrained, function: Callable[[Array], Array]) -> export.Exported:
  shape = export.symbolic_shape(f"days, {model.schema.steps}, {len(model.schema.channels)}")
  return export.export(jax.jit(function), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, jnp.float32))


def _about(model: Pretrained) -> dict[str, Any]:
  """Content of model.json, except for the functions."""
  schema, scale = model.schema.to_dict(), model.scale
  statistics = {
    "mean": scale.reference_mean.tolist(),
    "std": scale.reference_std.tolist(),
    "min": scale.low.tolist(),
    "max": scale.high.tolist(),
    "zero_is_missing": scale.zero_is_missing.tolist(),
  }
  channels = [
    channel | {name: values[c] for name, values in statistics.items()} for c, channel in enumerate(schema["channels"])
  ]
  return {
    "format": FORMAT,
    "name": model.name,
    "trained_steps": model.trained_steps,
    "parameters": model.parameters_digest,
    "written": datetime.date.today().isoformat(),
    "versions": {package: installed_version(package) for package in _PACKAGES},
    "minutes_per_step": model.schema.minutes_per_step,
    "steps": model.schema.steps,
    "channels": channels,
    "embedding_width": model.embedding_width("mean"),
  }
