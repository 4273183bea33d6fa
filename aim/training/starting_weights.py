"""Starts a run from the weights of another run (config.init) instead of random parameters.

Channels are matched by name, units and kinds, and keep the places that they have in the checkpoint. What was taken is
written into the metadata of every checkpoint of the run, so that it goes on without the one that it started from.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array

from aim.common import config_files
from aim.common.config_files import ConfigError
from aim.model import from_config, lsm2
from aim.model.lsm2 import Architecture
from aim.training import checkpoint, checkpoint_metadata
from aim.training.checkpoint import Restored
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.checksums import checksums
from aim.training.compatibility import OF_THE_SKIP
from aim.training.train_state import TrainState
from aim.training.trained import source
from data_pipelines.channels import vocabulary
from data_pipelines.channels.distance import Distance
from data_pipelines.channels.matching import Matching, Pair
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Schema
from data_pipelines.text_files import counted

# The config keys that the shapes of taken parameters depend on, but for the patch. The encoder is in both parts.
ENCODER_KEYS = (*(f"model.encoder.{key}" for key in ("width", "mlp", "heads", "layers")), "model.observed_flags")
DECODER_KEYS = (
  *(f"model.decoder.{key}" for key in ("width", "mlp", "heads", "layers")),
  *("method", "model.interpolation_skip"),
)
ENCODER = ("patch_embedding", "encoder")
OF_CHANNELS = ("skip_curves", "context_curves")  # a row per channel
OF_CONTEXT = ("context_embedding", "context_head", "context_curves")  # fresh where the checkpoint has no context
OF_A_PATCH = (
  "patch_embedding",
  "head",
  "evidence_embedding",
  "context_embedding",
)  # parameters whose shapes depend on a patch's values


@dataclasses.dataclass(frozen=True)
class Start:
  """Starting point of a run that takes the weights of another.

  Attributes:
    places: of the run's channels.
    statistics: {"mean": [channels], ...} by which the run normalises.
    history: JSON; one entry for each time that weights were taken, the last of them for this run.
    params: the parameters that are taken, {name: array}; {} in a run that goes on.
  """

  places: tuple[int, ...]
  statistics: Mapping[str, Sequence[float]]
  history: Sequence[Mapping[str, Any]]
  params: Mapping[str, Array]

  @property
  def entry(self) -> Mapping[str, Any]:
    """The entry of the history about this run."""
    return self.history[-1]

  @property
  def text(self) -> str:
    """A summary in a few lines: parameters that were taken, are fresh or are frozen, channels and statistics."""
    entry = self.entry
    channels, fresh = entry["channels"], sorted({name.split("/")[0] for name in entry["fresh"]})
    lines = [f"started from {entry['checkpoint']}, step {entry['step']} (digest {entry['digest']})"]
    lines.append(
      f"  parameters: {counted(entry['taken'], 'array')} taken, "
      + (f"{counted(len(entry['fresh']), 'array')} fresh ({', '.join(fresh)})" if fresh else "none fresh")
    )
    if entry["patch_values"][0] != entry["patch_values"][1]:
      lines.append(f"    a patch has {entry['patch_values'][0]} values there and {entry['patch_values'][1]} here")
    renamed = [f"{ours} (there {theirs})" for ours, theirs in channels.items() if ours != theirs]
    lines.append(f"  channels: {len(channels)} known" + (f", by another name: {', '.join(renamed)}" if renamed else ""))
    lines += [f"    new: {', '.join(entry['new_channels'])}"] if entry["new_channels"] else []
    lines += [f"    not in these data: {', '.join(entry['left_out'])}"] if entry["left_out"] else []
    measured = entry["measured"]
    own = "" if not measured or entry["statistics"] == "data" else f"; of these data for {', '.join(measured)}"
    lines.append(f"  statistics: of the {entry['statistics']}{own}")
    if entry.get("unlike"):  # runs that began before it was told have none
      lines.append(
        f"    these data are unlike them: {'; '.join(entry['unlike'])}; config.init.statistics='data' fits them"
      )
    there, here = entry.get("decoder_tokens", ("", ""))  # runs that began before it was told have none
    if entry["parts"] == "all" and there != here:
      lines.append(f"    the decoder is of model.decoder.tokens={there}, and goes on as {here}")
    if entry["frozen"]:
      lines.append(f"  frozen: {', '.join(entry['frozen'])}")
    if entry["learning_rate"] != 1:
      lines.append(f"  learning rate: times {entry['learning_rate']:g} for what was taken")
    return "\n".join(lines)

  def applied(self, state: TrainState, shardings: Mapping[str, Any]) -> TrainState:
    """A fresh state with the taken parameters in their places, also in the moving average."""
    place = lambda group: {
      name: jax.device_put(np.asarray(self.params[name]), shardings[group][name]) if name in self.params else leaf
      for name, leaf in state[group].items()
    }
    return state | {"params": place("params"), "ema": place("ema")}

  def rates(self, names: Sequence[str]) -> dict[str, float]:
    """Factors of the learning rate by parameter, 0 for what is frozen."""
    fresh = set(self.entry["fresh"])
    rate = lambda name: 1.0 if name in fresh else float(self.entry["learning_rate"])
    return {name: 0.0 if _is_part(name, self.entry["frozen"]) else rate(name) for name in names}


def start_of(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, schema: Schema, statistics: Mapping[str, Sequence[float]]
) -> Start | None:
  """The starting point of a run of this config; None without config.init.checkpoint.

  A run that goes on reads it from its own newest checkpoint.

  Args:
    config: the whole experiment config.
    workdir: of the run.
    schema: of its data.
    statistics: of its data, {"mean": [channels], ...}.

  Raises:
    ConfigError: config.init or config.model.places does not fit the checkpoint.
    CheckpointError: there is no such checkpoint, its architecture is another, or the run began from something else.
  """
  chosen = config.init
  if not chosen.checkpoint:
    for key, unset in (("frozen", ()), ("learning_rate", 1.0)):
      value = tuple(chosen[key]) if key == "frozen" else chosen[key]
      if value != unset:
        raise ConfigError(f"config.init.{key} is {value!r}, expected {unset!r}: config.init.checkpoint is empty")
    return None
  saved = checkpoint.newest_metadata(workdir)
  if saved is not None:
    where = f"{workdir}: checkpoint at step {saved['step']}"
    checkpoint_metadata.check_same_start(saved["config"], config_files.to_dict(config), where)
    places = from_config.places(ml_collections.ConfigDict(saved["config"]), schema)
    return Start(places, saved["statistics"], saved["history"], {})
  return _from_checkpoint(config, source.read(chosen.checkpoint), schema, statistics)


def _from_checkpoint(
  config: ml_collections.ConfigDict, start: Restored, schema: Schema, statistics: Mapping[str, Sequence[float]]
) -> Start:
  chosen = config.init
  where = f"config.init.checkpoint={chosen.checkpoint}"
  try:
    known = vocabulary.load(config.data.vocabulary)
    matching = Matching.between(schema, start.schema, known, where=where)
  except SchemaError as error:
    raise ConfigError(str(error)) from None
  _check_architecture(config, start, where)
  if max(config.model.patch_channels, start.architecture.patch_channels) > 1 and schema.names != start.schema.names:
    raise ConfigError(
      f"{where}: patches of several channels have no places; expected the channels {', '.join(start.schema.names)}"
    )
  pairs = {pair.source: pair for pair in matching.pairs}
  places = _places(config, start, schema, pairs, where)
  architecture = from_config.architecture(from_config.with_places(config, places), schema)
  shapes = lsm2.abstract(architecture)[1]
  params = _taken(start, architecture, shapes, chosen.parts, pairs, where)
  kept, measured = _statistics(chosen.statistics, start, schema, statistics, pairs)
  unlike = [distance.text for distance in _distances(schema, statistics, kept) if distance.is_far]
  frozen = tuple(chosen.frozen)
  _check_frozen(frozen, shapes, params)
  new = [name for i, name in enumerate(schema.names) if i not in pairs]
  entry = {
    "checkpoint": str(chosen.checkpoint),
    "digest": checkpoint_metadata.digest(checksums(start.params)),
    "step": start.step,
    "training_data": dict(start.training_data) if start.training_data else None,
    "parts": chosen.parts,
    "taken": len(params),
    "fresh": sorted(set(shapes) - set(params)),
    "patch_values": [start.architecture.patch_values, architecture.patch_values],
    "channels": {pair.name: pair.target_name for pair in matching.pairs},
    "new_channels": new,
    "left_out": [name for i, name in enumerate(start.schema.names) if i not in {p.target for p in matching.pairs}],
    "statistics": chosen.statistics,
    "measured": measured,
    "unlike": unlike,
    "frozen": list(frozen),
    "learning_rate": float(chosen.learning_rate),
    "decoder_tokens": [start.architecture.decoder_tokens, architecture.decoder_tokens],
  }
  return Start(places, kept, [*start.metadata.get("history", []), entry], params)


def _check_architecture(config: ml_collections.ConfigDict, start: Restored, where: str) -> None:
  """Raises CheckpointError, with the keys by name, if the shapes of what is to be taken are others, or their use."""
  ours, theirs = dict(config_files.leaves(config)), dict(config_files.leaves(start.config))
  differing = lambda keys: [
    f"{key} is {theirs[key]} there, {ours[key]} in this config" for key in keys if ours[key] != theirs[key]
  ]
  encoder = differing(ENCODER_KEYS)
  decoder = differing((*DECODER_KEYS, *(OF_THE_SKIP if config.model.interpolation_skip else ())))
  others = encoder + (decoder if config.init.parts == "all" else [])
  if others:
    way_out = "; set it as there" + ("" if encoder else ", or take the encoder alone, config.init.parts='encoder'")
    raise CheckpointError(f"{where} is of another architecture: {', '.join(others)}{way_out}")


def _places(
  config: ml_collections.ConfigDict, start: Restored, schema: Schema, pairs: Mapping[int, Pair], where: str
) -> tuple[int, ...]:
  """The checkpoint's places for the channels that it knows; others have the vocabulary's, or else the next free one."""
  if config.model.patch_channels > 1:
    return start.architecture.places
  given = config.model.places
  known = {i: start.architecture.places[pair.target] for i, pair in pairs.items()}
  if not isinstance(given, str):
    chosen = from_config.places(config, schema)
    for i, place in known.items():
      if chosen[i] != place:
        raise ConfigError(
          f"config.model.places gives {chosen[i]} to channel {schema.names[i]!r}, expected {place}, which it has in "
          f"{where}; leave config.model.places as 'schema'"
        )
    return chosen
  used = {*start.architecture.places}
  free = itertools.count(max(used) + 1)
  for i, name in enumerate(schema.names):
    if i not in known:
      wish = from_config.vocabulary_place(config, name) if given == "vocabulary" else None
      known[i] = next(number for number in free if number not in used) if wish is None or wish in used else wish
      used.add(known[i])
  return tuple(known[i] for i in range(len(schema.names)))


def _taken(
  start: Restored,
  architecture: Architecture,
  shapes: Mapping[str, Any],
  parts: str,
  pairs: Mapping[int, Pair],
  where: str,
) -> dict[str, Array]:
  """The parameters of the checkpoint that the run takes. Of one with a row per channel, new channels' rows are 0.

  Raises:
    CheckpointError: one has another shape for a reason that no config key names.
  """
  same_patch = start.architecture.patch_values == architecture.patch_values
  taken = {}
  for name, leaf in shapes.items():
    if (parts == "encoder" and not _is_part(name, ENCODER)) or (not same_patch and _is_part(name, OF_A_PATCH)):
      continue
    if not start.architecture.context_days and _is_part(name, OF_CONTEXT):
      continue
    theirs = start.params.get(name)
    if theirs is not None and name in OF_CHANNELS and architecture.patch_channels == 1:
      ours, rows = list(pairs), [pair.target for pair in pairs.values()]
      theirs = jnp.zeros(leaf.shape, leaf.dtype).at[np.array(ours, int)].set(theirs[np.array(rows, int)])
    if theirs is None or theirs.shape != leaf.shape:
      found = "missing" if theirs is None else theirs.shape
      raise CheckpointError(f"{where} is of another architecture: parameter {name} is {found}, expected {leaf.shape}")
    taken[name] = theirs
  return taken


def _is_part(name: str, prefixes: Sequence[str]) -> bool:
  """True if a parameter is one of these or lies under one of them."""
  return any(name == prefix or name.startswith(f"{prefix}/") for prefix in prefixes)


def _check_frozen(frozen: Sequence[str], shapes: Mapping[str, Any], taken: Mapping[str, Any]) -> None:
  """Raises ConfigError for a prefix of no parameter, or of one that is not taken, and if nothing is left to train."""
  for prefix in frozen:
    names = [name for name in shapes if _is_part(name, (prefix,))]
    if not names:
      known = sorted({name.split("/")[0] for name in shapes})
      raise ConfigError(f"config.init.frozen holds {prefix!r}, which begins no parameter; there are {', '.join(known)}")
    if fresh := [name for name in names if name not in taken]:
      raise ConfigError(f"config.init.frozen holds {prefix!r}, but {fresh[0]} is not taken and would stay random")
  if all(_is_part(name, frozen) for name in shapes):
    raise ConfigError(f"config.init.frozen is {tuple(frozen)!r}: nothing is left to train")


def _statistics(
  choice: str,
  start: Restored,
  schema: Schema,
  statistics: Mapping[str, Sequence[float]],
  pairs: Mapping[int, Pair],
) -> tuple[dict[str, list[float]], list[str]]:
  """The statistics to normalise by, in the units of the data, and the names of the channels that have the data's."""
  merged = {key: list(statistics[key]) for key in ("mean", "std", "min", "max")}
  measured = []
  for i, name in enumerate(schema.names):
    pair = pairs.get(i)
    # What a step counts grows with its length, and the spread of it in a way that depends on the person.
    other_clock = pair is not None and pair.rule == "sum" and start.schema.minutes_per_step != schema.minutes_per_step
    if choice == "data" or pair is None or other_clock:
      measured.append(name)
      continue
    theirs = {key: float(start.metadata["statistics"][key][pair.target]) for key in merged}
    ours = {key: _in_unit_of_the_data(pair, value, schema) for key, value in theirs.items() if key != "std"}
    if pair.unit == pair.target_unit:
      ours["std"] = theirs["std"]
    else:
      ours["std"] = abs(_in_unit_of_the_data(pair, theirs["mean"] + theirs["std"], schema) - ours["mean"])
      ours["min"], ours["max"] = sorted((ours["min"], ours["max"]))
    for key, value in ours.items():
      merged[key][i] = value
  return merged, measured


def _distances(
  schema: Schema, statistics: Mapping[str, Sequence[float]], kept: Mapping[str, Sequence[float]]
) -> list[Distance]:
  """Distances of the data's statistics from those that are kept, one per continuous channel."""
  return [
    Distance(
      channel.name, (statistics["mean"][i] - kept["mean"][i]) / kept["std"][i], statistics["std"][i] / kept["std"][i]
    )
    for i, channel in enumerate(schema.channels)
    if not schema.binary[i] and kept["std"][i] > 0
  ]


def _in_unit_of_the_data(pair: Pair, value: float, schema: Schema) -> float:
  minutes = schema.minutes_per_step
  return float(pair.backward(np.full((1, schema.steps), value), minutes, minutes)[0, 0])
