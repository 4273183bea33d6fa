"""Release folders of OpenMHC's daily LSM-2, as its imputers load them: read and written.

    openmhc_manifest.json      spec_version, kind "lsm2", names of the other two files, arch, provenance
    normalization_stats.json   means, stds, the numbers of the channels that are z-scored, epsilon
    model.ckpt                 a Lightning checkpoint, or model.safetensors

OpenMHC's model is this project's with other names and with every weight transposed (docs/interop.md says what has to be
set for it). Sources: docs/neural-imputers.md and the manifest's own description at github.com/AshleyLab/OpenMHC.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Array, Shaped
from safetensors import SafetensorError

from aim.common.config_files import ConfigError
from aim.model import lsm2, positions
from aim.training import checkpoint
from aim.training.checkpoint import Restored
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.trained import exported, torch_file
from data_pipelines.channels import units, vocabulary
from data_pipelines.errors import SchemaError, first_line, is_number, is_whole
from data_pipelines.schema import Schema
from data_pipelines.text_files import check_regular, read_json

MANIFEST, STATISTICS, ARRAYS = "openmhc_manifest.json", "normalization_stats.json", "model.safetensors"
FILES = (MANIFEST, STATISTICS, ARRAYS)
PATTERNS = (MANIFEST, STATISTICS, "*.ckpt", "*.pt", "*.pth", "*.safetensors")  # of a release on a hub
METADATA = "openmhc"  # under which a model keeps what is needed to write its release again

WORKOUTS = (
  "walking", "cycling", "running", "other", "mixed_cardio", "strength", "elliptical", "hiit", "functional", "yoga",
)  # fmt: skip
CHANNELS = (
  *("iphone_steps", "iphone_distance", "iphone_flights", "watch_steps", "watch_distance", "watch_hr", "watch_energy"),
  *("sleep_asleep", "sleep_inbed"),
  *(f"workout_{kind}" for kind in WORKOUTS),
)
Z_SCORED = 7  # the first channels, which are continuous; the others are binary
HEART_RATE, ENERGY = "watch_hr", "watch_energy"
# What OpenMHC's data are in, where our vocabulary has another unit (src/.../xgboost/constants.py there).
THEIR_UNITS = {HEART_RATE: "count/s", ENERGY: "cal"}
# Means by the minute that beats per second cannot have, and that kilocalories cannot.
_MOST_PER_SECOND, _MOST_KCAL = 10.0, 20.0
STEPS, PATCH = 1440, 10

# Config keys that the layout decides, with their values.
LAYOUT: dict[str, Any] = {
  "method": "mae",
  "model.patch_minutes": PATCH,
  "model.patch_channels": 1,
  "model.decoder.tokens": "all",
  "model.observed_flags": False,
  "model.interpolation_skip": False,
  "masking.min_observed_share": 1.0,
  "masking.any_observed": (HEART_RATE,),
  "data.clip": False,
  "data.zero_is_missing": (HEART_RATE,),
  "data.impute": "none",
}
# {their name of a size: config key}
_SIZES = {
  "embed_dim": "model.encoder.width",
  "depth": "model.encoder.layers",
  "num_heads": "model.encoder.heads",
  "decoder_embed_dim": "model.decoder.width",
  "decoder_depth": "model.decoder.layers",
  "decoder_num_heads": "model.decoder.heads",
}
_FIXED = {"seq_length": STEPS, "patch_size": PATCH, "in_channels": len(CHANNELS)}
_EPSILON = 1e-8


def schema() -> Schema:
  """The 19 channels in OpenMHC's order, by the minute."""
  entries = map(vocabulary.load().find, CHANNELS)
  return Schema(1, tuple(entry.channel for entry in entries if entry is not None))


def is_release(folder: pathlib.Path) -> bool:
  """True if a folder is a release of OpenMHC."""
  return (folder / MANIFEST).is_file()


def their_name(name: str) -> str:
  """OpenMHC's name of one of our parameters."""
  *path, last = name.split("/")
  part = "/".join(path)
  for ours, theirs in (
    ("patch_embedding", "patch_embed/proj"),
    ("bridge", "encoder_to_decoder"),
    ("head", "decoder_pred"),
    ("attention/out", "attn/proj"),
    ("attention/qkv", "attn/qkv"),
    ("mlp/up", "mlp/0"),
    ("mlp/down", "mlp/3"),
  ):
    if part == ours or part.endswith(f"/{ours}"):
      part = part.removesuffix(ours) + theirs
  return ".".join([*part.split("/"), {"kernel": "weight", "scale": "weight"}.get(last, last)]).lstrip(".")


def their_array(name: str, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
  """One of our parameters in OpenMHC's layout: weights are [outputs, inputs], biases have one dimension."""
  if name == "mask_token":
    return array.reshape(1, 1, -1)
  if not name.endswith("/kernel"):
    return array.reshape(-1)
  matrix = (
    array.reshape(-1, array.shape[-1]) if name.endswith("attention/out/kernel") else array.reshape(len(array), -1)
  )
  return np.ascontiguousarray(matrix.T)


def _our_array(
  name: str, array: Shaped[np.ndarray, "..."], shape: tuple[int, ...], where: str
) -> Shaped[np.ndarray, "..."]:
  """The inverse of their_array().

  Raises:
    CheckpointError: the array has another shape.
  """
  expected = their_array(name, np.empty(shape, np.bool_)).shape
  if array.shape != expected and not (name == "mask_token" and array.size == expected[-1] == array.shape[-1]):
    raise CheckpointError(f"{where}: array {their_name(name)!r} is {array.shape}, expected {expected} by its arch")
  return np.ascontiguousarray((array.T if name.endswith("/kernel") else array).reshape(shape))


def read(folder: pathlib.Path, where: str | None = None) -> Restored:
  """Reads a release folder.

  Args:
    folder: local.
    where: names it in messages; by default the folder.

  Raises:
    CheckpointError: something of it is missing, damaged, of another model, or no part of a model (one line).
  """
  where = where or str(folder)
  manifest = _object(folder, MANIFEST, where)
  if manifest.get("kind") != "lsm2":
    raise CheckpointError(f"{where}: {MANIFEST}: kind is {manifest.get('kind')!r}, expected 'lsm2'")
  if manifest.get("spec_version") not in (1, 2):
    raise CheckpointError(f"{where}: {MANIFEST}: spec_version is {manifest.get('spec_version')!r}, expected 1 or 2")
  arrays, saved = _arrays(folder, _file_of(manifest, "checkpoint", folder, where), where)
  arch = _arch(manifest, saved.get("hyper_parameters"), where)
  stored, statistics = _statistics(folder, manifest, saved, where)
  prefix = _prefix(arrays, where)
  step = saved.get("global_step", 0)
  about = {key: manifest.get(key) for key in ("spec_version", "provenance")}
  metadata = {
    "config": _config(arch),
    "schema": _in_units_of(statistics, _schema(arch)).to_dict(),
    "statistics": statistics,
    METADATA: about | {"arch": manifest["arch"], "statistics": stored, "prefix": prefix},
  }
  restored = checkpoint.without_params(metadata, step if is_whole(step) else 0, where, tell_missing=False)
  shapes = lsm2.abstract(restored.architecture)[1]
  params = _params({name.removeprefix(prefix): array for name, array in arrays.items()}, shapes, restored, where)
  restored.metadata[METADATA]["mask_token"] = list(arrays[f"{prefix}mask_token"].shape)  # type: ignore[index]
  return dataclasses.replace(restored, params=params)


def _params(
  arrays: dict[str, np.ndarray], shapes: Mapping[str, Any], restored: Restored, where: str
) -> dict[str, Array]:
  """The parameters under our names.

  Raises:
    CheckpointError: an array is missing, is of another shape or type, or belongs to no part of the model.
  """
  names = {their_name(name): name for name in shapes}
  for theirs in names:
    if theirs not in arrays:
      raise CheckpointError(f"{where}: array {theirs!r} is missing")
  for theirs, array in arrays.items():
    if theirs not in names and not _is_position_code(array, restored):
      raise CheckpointError(f"{where}: array {theirs!r} is no part of this model")
  params = {}
  for theirs, name in names.items():
    if arrays[theirs].dtype != np.float32:
      raise CheckpointError(f"{where}: array {theirs!r} is {arrays[theirs].dtype}, expected float32")
    params[name] = _our_array(name, arrays[theirs], shapes[name].shape, where)
  with jax.default_device(jax.local_devices()[0]):
    return {name: jnp.asarray(array) for name, array in params.items()}


def _is_position_code(array: np.ndarray, restored: Restored) -> bool:
  """True if an array is the table of position codes of a tower, which we compute instead of storing it."""
  a = restored.architecture
  if array.ndim < 2 or array.size != a.tokens * array.shape[-1] or array.shape[-1] % 4:
    return False
  codes = positions.token_positions(jnp.arange(a.tokens), a.length, array.shape[-1], a.places)
  return bool(np.allclose(array.reshape(a.tokens, -1), codes, atol=1e-4))


def _config(arch: Mapping[str, Any]) -> dict[str, Any]:
  """The config keys that describe a model of these sizes; all others keep their defaults."""
  flat = LAYOUT | {key: arch[name] for name, key in _SIZES.items()}
  flat |= {"name": "LSM-2 (OpenMHC)", "model.places": "schema", "model.qk_init": 0.0}
  for tower, width in (("encoder", "embed_dim"), ("decoder", "decoder_embed_dim")):
    flat[f"model.{tower}.mlp"] = int(arch[width] * arch["mlp_ratio"])
  config: dict[str, Any] = {}
  for key, value in flat.items():
    *groups, last = key.split(".")
    group = config
    for name in groups:
      group = group.setdefault(name, {})
    group[last] = list(value) if isinstance(value, tuple) else value
  return config


def _schema(arch: Mapping[str, Any]) -> Schema:
  """The channels; without the hybrid loss the last 12 are predicted as numbers too."""
  if arch.get("use_hybrid_loss", True):
    return schema()
  return dataclasses.replace(
    schema(),
    channels=tuple(dataclasses.replace(channel, kind="continuous") for channel in schema().channels),
  )


def _in_units_of(statistics: Mapping[str, list[float]], channels: Schema) -> Schema:
  """The schema with the units that the statistics are in: OpenMHC's, unless their means rule these out."""
  values = dict(zip(CHANNELS, zip(statistics["mean"], statistics["std"], strict=True), strict=True))
  unscaled = (0.0, 1.0)
  ours = set()
  if values[HEART_RATE] != unscaled and values[HEART_RATE][0] > _MOST_PER_SECOND:
    ours.add(HEART_RATE)
  if values[ENERGY] != unscaled and values[ENERGY][0] < _MOST_KCAL:
    ours.add(ENERGY)
  unit_of = lambda channel: channel.unit if channel.name in ours else THEIR_UNITS.get(channel.name, channel.unit)
  return dataclasses.replace(
    channels, channels=tuple(dataclasses.replace(each, unit=unit_of(each)) for each in channels.channels)
  )


def _arch(manifest: Mapping[str, Any], saved: Any, where: str) -> dict[str, Any]:
  """The sizes, by the manifest and, where they are saved with the arrays, by these, as OpenMHC takes them.

  Raises:
    CheckpointError: one is missing, or is of a model other than the daily one.
  """
  arch = manifest.get("arch")
  if not isinstance(arch, dict):
    raise CheckpointError(f"{where}: {MANIFEST}: arch is {arch!r}, expected an object")
  arch = dict(arch)
  for key, value in saved.items() if isinstance(saved, Mapping) else ():
    if key in (*_SIZES, *_FIXED, "mlp_ratio", "use_hybrid_loss"):
      if key in arch and arch[key] != value:
        print(
          f"note: {where}: {key} is {arch[key]} in {MANIFEST} and {value} in the checkpoint, which counts",
          file=sys.stderr,
        )
      arch[key] = value
  for key in (*_SIZES, *_FIXED, "mlp_ratio"):
    if key not in arch:
      raise CheckpointError(f"{where}: {MANIFEST}: arch has no {key!r}")
    is_fit = is_number if key == "mlp_ratio" else is_whole
    if not is_fit(arch[key]) or not 0 < arch[key] < 1e6:
      raise CheckpointError(f"{where}: {MANIFEST}: arch: {key} is {arch[key]!r}, expected a number above 0")
  for key, expected in _FIXED.items():
    if arch[key] != expected:
      raise CheckpointError(f"{where}: {MANIFEST}: arch: {key} is {arch[key]}, expected {expected}, the daily model's")
  return arch


def _statistics(
  folder: pathlib.Path, manifest: Mapping[str, Any], saved: Mapping[str, Any], where: str
) -> tuple[dict[str, Any] | None, dict[str, list[float]]]:
  """Statistics that normalise days: as the file has them, and as statistics of our channels.

  Values are not bounded in what OpenMHC fills in, so the smallest and the largest are those of float32.

  Raises:
    CheckpointError: the file is damaged.
  """
  count = len(CHANNELS)
  stored: dict[str, Any] | None = None
  means: Any
  stds: Any
  if manifest.get("normalization_stats") is not None:
    path = _file_of(manifest, "normalization_stats", folder, where)
    name, stored = path.name, _object(path.parent, path.name, where)
    means, stds, channels = stored.get("means"), stored.get("stds"), stored.get("channels", list(range(Z_SCORED)))
  elif embedded := _embedded(saved):
    name = "statistics in the checkpoint"
    means, stds, channels = embedded.get("mean_prior"), embedded.get("std_prior"), list(range(Z_SCORED))
    print(f"note: {where}: {MANIFEST} names no statistics; those in the checkpoint are used", file=sys.stderr)
  else:
    means, stds, channels = [0.0] * count, [1.0] * count, []
    print(f"note: {where}: {MANIFEST} names no statistics; days are not normalised", file=sys.stderr)
  for key, values in ("means", means), ("stds", stds):
    if not isinstance(values, list | tuple) or len(values) != count or not all(map(_is_finite, values)):
      raise CheckpointError(f"{where}: {name}: {key} is {str(values)[:60]}, expected {count} numbers")
  if not isinstance(channels, list) or any(not is_whole(c) or not 0 <= c < Z_SCORED for c in channels):
    raise CheckpointError(
      f"{where}: {name}: channels is {str(channels)[:60]}, expected some of 0 to {Z_SCORED - 1}: the others are binary"
    )
  for c in channels:
    if not stds[c] > 0:
      raise CheckpointError(f"{where}: {name}: stds[{c}] ({CHANNELS[c]}) is {stds[c]}, expected a number above 0")
  largest = float(np.finfo(np.float32).max)
  return stored, {
    "mean": [float(mean) if c in channels else 0.0 for c, mean in enumerate(means)],
    "std": [float(std) if c in channels else 1.0 for c, std in enumerate(stds)],
    "min": [-largest] * Z_SCORED + [0.0] * (count - Z_SCORED),
    "max": [largest] * Z_SCORED + [1.0] * (count - Z_SCORED),
  }


def _is_finite(value: Any) -> bool:
  return is_number(value) and bool(np.isfinite(value))


def _embedded(saved: Mapping[str, Any]) -> Mapping[str, Any] | None:
  """The statistics inside a Lightning checkpoint."""
  module = saved.get("LightningDataModule")
  known = module.get("normalization_stats") if isinstance(module, Mapping) else None
  return known if isinstance(known, Mapping) else None


def _arrays(folder: pathlib.Path, path: pathlib.Path, where: str) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
  """The arrays of a checkpoint under OpenMHC's names, and what else is saved with them.

  Raises:
    CheckpointError: it is damaged, or holds anything but arrays and plain values.
  """
  where = f"{where}: {path.name}"
  if path.suffix == ".safetensors":
    try:
      return safetensors.numpy.load_file(path), {}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
      raise CheckpointError(f"{where}: cannot be read: {first_line(error, 300)}") from None
  file = torch_file.TorchFile(path, where)
  saved = file.content if isinstance(file.content, Mapping) else {}
  found = torch_file.tensors(saved.get("state_dict", saved))
  if not found:
    raise CheckpointError(f"{where}: holds no state_dict of tensors")
  return {name: file.array(name, tensor) for name, tensor in found.items()}, saved


def _prefix(arrays: Mapping[str, Any], where: str) -> str:
  """The prefix of every name, such as "model." in a checkpoint of Lightning.

  Raises:
    CheckpointError: no array has the name of a patch embedding.
  """
  first = "patch_embed.proj.weight"
  ends = [name for name in arrays if name == first or name.endswith(f".{first}")]
  if len(ends) != 1:
    raise CheckpointError(f"{where}: array {first!r} is missing")
  return ends[0].removesuffix(first)


def _file_of(manifest: Mapping[str, Any], key: str, folder: pathlib.Path, where: str) -> pathlib.Path:
  """A file that the manifest names.

  Raises:
    CheckpointError: it is not there, is no file, or lies outside of the folder.
  """
  name = manifest.get(key)
  if (
    not isinstance(name, str)
    or not name
    or pathlib.PurePath(name).is_absolute()
    or ".." in pathlib.PurePath(name).parts
  ):
    raise CheckpointError(f"{where}: {MANIFEST}: {key} is {name!r}, expected the name of a file of this folder")
  try:
    check_regular(folder / name)
  except SchemaError as error:
    raise CheckpointError(f"{where}: {name}: {str(error).removeprefix(f'{folder / name}: ')}") from None
  return folder / name


def _object(folder: pathlib.Path, name: str, where: str) -> dict[str, Any]:
  """The object in a JSON file.

  Raises:
    CheckpointError: it is none.
  """
  try:
    content = read_json(folder / name)
  except SchemaError as error:
    raise CheckpointError(f"{where}: {name}: {str(error).removeprefix(f'{folder / name}: ')}") from None
  if not isinstance(content, dict):
    raise CheckpointError(f"{where}: {name}: is no JSON object")
  return content


def write(restored: Restored, folder: str | os.PathLike, overwrite: bool = False) -> None:
  """Writes a release folder, whole or not at all; a release that was read becomes the same arrays and statistics.

  Args:
    restored: the model.
    folder: to be made; its parent is made too.
    overwrite: whether `folder` may be such a folder, which is replaced.

  Raises:
    ConfigError: the model is not of OpenMHC's layout, the folder exists or cannot be written.
  """
  target = pathlib.Path(folder).absolute()
  exported.check_target(target, overwrite, FILES)
  check_layout(restored, str(target))
  known: Mapping[str, Any] = restored.metadata.get(METADATA, {})
  prefix, shapes = known.get("prefix", ""), {"mask_token": known.get("mask_token", [1, 1, -1])}
  arrays = {}
  for name, array in sorted(restored.params.items()):
    theirs = their_array(name, np.asarray(array, np.float32))
    arrays[prefix + their_name(name)] = theirs.reshape(shapes.get(name, theirs.shape))
  provenance = known.get("provenance") or {"written_by": "lsm2-aim", "trained_steps": restored.step}
  manifest = {
    "spec_version": 2,
    "kind": "lsm2",
    "checkpoint": ARRAYS,
    "normalization_stats": STATISTICS,
    "arch": known.get("arch") or _arch_of(restored),
    "provenance": provenance,
  }
  with exported.built_beside(target) as building:
    with exported.naming_native_errors(target):
      safetensors.numpy.save_file(arrays, building / ARRAYS)
    (building / MANIFEST).write_text(json.dumps(manifest, indent=2))
    (building / STATISTICS).write_text(json.dumps(known.get("statistics") or _statistics_of(restored), indent=2))


def check_layout(restored: Restored, where: str) -> None:
  """Checks that a model computes what OpenMHC's does.

  Raises:
    ConfigError: a setting is another; the message names it.
  """
  flat = restored.config
  for key, expected in LAYOUT.items():
    value: Any = flat
    for part in key.split("."):
      value = value[part]
    if (tuple(value) if isinstance(expected, tuple) else value) != expected:
      raise ConfigError(f"export to {where}: config.{key} is {value!r}, expected {expected!r} by OpenMHC's layout")
  expected_schema = _schema(restored.metadata.get(METADATA, {}).get("arch", {}))
  of = lambda schema: (schema.minutes_per_step, schema.names, tuple(schema.binary))
  if of(restored.schema) != of(expected_schema):
    difference = expected_schema.difference(restored.schema)
    raise ConfigError(f"export to {where}: the model's channels are not OpenMHC's: {difference}")
  if restored.architecture.places != tuple(range(len(CHANNELS))):
    raise ConfigError(f"export to {where}: config.model.places is not 'schema', expected channels to be counted from 0")
  encoder, decoder = restored.architecture.encoder, restored.architecture.decoder
  if encoder.mlp * decoder.width != decoder.mlp * encoder.width:
    raise ConfigError(
      f"export to {where}: config.model.decoder.mlp is {decoder.mlp}, expected the encoder's ratio to its width"
    )


def _arch_of(restored: Restored) -> dict[str, Any]:
  a = restored.architecture
  sizes = zip(
    _SIZES,
    (a.encoder.width, a.encoder.layers, a.encoder.heads, a.decoder.width, a.decoder.layers, a.decoder.heads),
    strict=True,
  )
  return _FIXED | dict(sizes) | {"mlp_ratio": a.encoder.mlp / a.encoder.width, "use_hybrid_loss": True}


def _statistics_of(restored: Restored) -> dict[str, Any]:
  """Normalisation statistics in OpenMHC's units; a channel that declares no unit is taken to be in them."""
  means, stds = restored.scale.mean.tolist(), restored.scale.std.tolist()
  for c, channel in enumerate(restored.schema.channels):
    if channel.unit and channel.name in THEIR_UNITS:
      both = np.array([means[c], stds[c]], np.float64)
      means[c], stds[c] = units.convert(both, channel.unit, THEIR_UNITS[channel.name], channel.name).tolist()
  return {
    "means": means,
    "stds": stds,
    "channels": list(range(Z_SCORED)),
    "epsilon": _EPSILON,
  }
