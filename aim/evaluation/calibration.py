"""--mode=calibrate: how large a model's errors are on held-out people, so that what it fills in has an interval.

The people of the split `tune` make the table (aim/inference/uncertainty.py), those of `eval` test it.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from aim.common.config_files import ConfigError
from aim.common.seen_people import NONE, NOT_KNOWN
from aim.inference.pretrained import Pretrained
from aim.inference.uncertainty import BINS, LEVELS, Uncertainty, distance_bins
from aim.training.trained import source
from data_pipelines.context.other_days import OtherDays
from data_pipelines.context.profile import Profile
from data_pipelines.dataset import Dataset

FILE = source.UNCERTAINTY
MOST_DAYS = 400  # of each side, evenly spaced
FEWEST_VALUES = 100  # of a channel and bin; with fewer it has those of the nearest bin
_ROUNDS = 4  # ways of hiding, each of which hides something of every day

# Errors of one channel: absolute, in SDs; their bins; and whose they are.
Errors = tuple[Float[np.ndarray, "_"], Int[np.ndarray, "_"], Shaped[np.ndarray, "_"]]


def calibrate(model: Pretrained, data_dir: str, names: Sequence[str], workdir: pathlib.Path, seed: int = 0) -> None:
  """Measures a model's errors, writes uncertainty.json into the workdir, and prints the coverage.

  Args:
    model: is not known to have been trained on people of the splits tune and eval of the datasets. Where nobody knows,
      the table says so.
    data_dir: folder of the datasets.
    names: of the datasets; of other channels than the model's too.
    workdir: folder of the run.
    seed: of what is hidden.

  Raises:
    ConfigError: nobody is in one of the splits, or the model was trained on people of them.
    SchemaError: a dataset cannot be matched to the model, or the model has no decoder.
  """
  model.check_has_decoder("calibrate")
  model.one_program = True
  sides: dict[str, list[tuple[np.ndarray, str, Profile | None]]] = {"tune": [], "eval": []}
  known = True
  for name in names:
    dataset = Dataset.open(data_dir, name)
    seen = model.matched(dataset)
    model.check_unseen_people(seen)
    trained_on = model.seen_people(seen, [*seen.people("tune"), *seen.people("eval")])
    if trained_on.trained_on:
      raise ConfigError(f"--data={name}: its splits tune and eval have {trained_on.text}, expected people never seen")
    if trained_on.trained_on is None:
      known = False
      print(f"note: --data={name}: {trained_on.text}")
    for split, days in sides.items():
      days += some_days(seen, split, name, MOST_DAYS // len(names), model)
  for split, days in sides.items():
    if not days:
      raise ConfigError(f"--data={','.join(names)}: nobody is in the split {split}, expected people never seen")
  fitted, tested = (
    (np.stack([day for day, _, _ in days]), np.array([who for _, who, _ in days])) for days in sides.values()
  )
  profiles = _profile(sides["tune"]), _profile(sides["eval"])
  seen_in_training = NONE if known else NOT_KNOWN
  if profiles[0] is None or profiles[1] is None:
    table = measure(model, fitted, tested, tuple(names), seed, seen_in_training, (None, None))
  else:
    given = profiles[0], profiles[1]
    table = measure_with_and_without(model, fitted, tested, tuple(names), seed, seen_in_training, given)
  source.write_uncertainty(workdir, model.parameters_digest, table.to_dict())
  print(table.text())
  for channel, shares in sorted(table.channel_coverage.items()):
    print(f"  {channel}: " + ", ".join(f"{100 * shares[level]:.0f} % in {100 * level:.0f} %" for level in LEVELS))
  print(f"{workdir / FILE}: written; --mode=export takes it along")


def some_days(
  dataset: Dataset, split: str, name: str, most: int, model: Pretrained
) -> Iterator[tuple[np.ndarray, str, Profile | None]]:
  """Days of a split, evenly spaced, with a name of the person that no other dataset has, and what the model is given.

  That is the profile of the person's nearest other days, if it reads any.
  """
  total = dataset.num_days(split)
  if not total:
    return
  days = dataset.days(split)
  others = OtherDays(dataset, split, model.context_days, on_corrupt=model.on_corrupt) if model.context_days else None
  for i in np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(int)):
    profile = others.profile(others.nearest(int(i))) if others else None
    yield np.asarray(days[int(i)]["values"]), f"{name} {days[int(i)]['participant'].decode()}", profile


def _profile(days: Sequence[tuple[np.ndarray, str, Profile | None]]) -> Profile | None:
  """The profiles of days as one; None if there are none."""
  profiles = [profile for _, _, profile in days if profile is not None]
  return Profile.stacked(profiles) if profiles else None


def measure_with_and_without(
  model: Pretrained,
  fitted: tuple[Float[np.ndarray, "days steps channels"], Shaped[np.ndarray, " days"]],
  tested: tuple[Float[np.ndarray, "days2 steps channels"], Shaped[np.ndarray, " days2"]],
  names: tuple[str, ...],
  seed: int,
  seen_in_training: str,
  profiles: tuple[Profile, Profile],
) -> Uncertainty:
  """The table of a model that reads other days: of days that have some, and, as its `alone`, of all days without.

  Where nobody has other days, the two are the same, which is printed. For the arguments see measure().
  """
  alone = measure(model, fitted, tested, names, seed, seen_in_training, (None, None))
  sides, given = [], []
  for (values, who), profile in zip((fitted, tested), profiles, strict=True):
    rows = np.flatnonzero(profile.known)
    sides.append((values[rows], who[rows]))
    given.append(profile.at(rows))
  if not all(len(values) for values, _ in sides):
    print(f"note: --data={','.join(names)}: nobody has other days in the split tune or eval; measured without them")
    return dataclasses.replace(alone, alone=alone)
  beside = measure(model, sides[0], sides[1], names, seed, seen_in_training, (given[0], given[1]))
  return dataclasses.replace(beside, alone=alone)


def measure(
  model: Pretrained,
  fitted: tuple[Float[np.ndarray, "days steps channels"], Shaped[np.ndarray, " days"]],
  tested: tuple[Float[np.ndarray, "days steps channels"], Shaped[np.ndarray, " days"]],
  names: tuple[str, ...],
  seed: int = 0,
  seen_in_training: str = "",
  profiles: tuple[Profile | None, Profile | None] = (None, None),
) -> Uncertainty:
  """The table of a model.

  Args:
    model: the model.
    fitted: days whose errors make the table, and whose they are.
    tested: days of other people, on whom its coverage is measured.
    names: of the datasets.
    seed: of what is hidden.
    seen_in_training: see Uncertainty.
    profiles: what the model is given of the other days of these people, for the days of either side.
  """
  schema = model.schema
  channels = np.flatnonzero(~schema.binary)
  errors = hidden_errors(model, *fitted, seed, profiles[0])
  known = {int(c): errors[c] for c in channels if len(errors[c][0])}
  table = {schema.names[c]: {level: error_quantiles(*known[c], level) for level in LEVELS} for c in known}
  others = hidden_errors(model, *tested, seed + 1, profiles[1])
  inside: dict[str, dict[float, float]] = {}
  for c in known:
    size, bins, who = others[c]
    if len(size):
      widths = {level: np.array(table[schema.names[c]][level])[bins] for level in LEVELS}
      inside[schema.names[c]] = {level: _mean_of_people(size <= widths[level], who) for level in LEVELS}
  overall = {level: float(np.mean([shares[level] for shares in inside.values()] or [math.nan])) for level in LEVELS}
  people = len(set(fitted[1].tolist())), len(set(tested[1].tolist()))
  return Uncertainty(table, overall, inside, people, (len(fitted[0]), len(tested[0])), names, seen_in_training)


def hidden_errors(
  model: Pretrained,
  values: Float[np.ndarray, "days steps channels"],
  participant: Shaped[np.ndarray, " days"],
  seed: int,
  profile: Profile | None = None,
) -> list[Errors]:
  """Errors of the model at values that are hidden from it, by channel."""
  parts: list[list[Errors]] = [[] for _ in model.schema.names]
  for turn in range(_ROUNDS):
    hidden = hide(values, model.schema.minutes_per_step, turn, np.random.default_rng((seed, turn)))
    hidden &= ~np.isnan(values)
    hidden[(np.isnan(values) | hidden).all(axis=(1, 2))] = False  # something has to stay
    visible = np.where(hidden, np.nan, values)
    target = hidden & ~model.schema.binary
    if not target.any():
      continue
    expected = model.physical(model.reconstruct(visible, target, progress=True, profile=profile))
    error = np.abs(expected - values) / model.scale.std
    bins = distance_bins(~np.isnan(visible), model.schema.minutes_per_step)
    for c, found in enumerate(parts):
      at = target[:, :, c]
      found.append((error[:, :, c][at], bins[:, :, c][at], np.broadcast_to(participant[:, None], at.shape)[at]))
  return [_joined(found) for found in parts]


def _joined(parts: list[Errors]) -> Errors:
  if not parts:
    return np.zeros(0), np.zeros(0, int), np.zeros(0, str)
  size, bins, who = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
  return size, bins, who


def hide(
  values: Float[np.ndarray, "days steps channels"], minutes_per_step: int, turn: int, rng: np.random.Generator
) -> Bool[np.ndarray, "days steps channels"]:
  """Draws the values to hide: by `turn` short gaps, hours of all channels, half a day, or one channel of several."""
  days, steps, channels = values.shape
  hidden = np.zeros(values.shape, bool)
  length = lambda low, high: max(1, int(rng.integers(low, high + 1)) // minutes_per_step)
  for d in range(days):
    if turn == 0:
      for c in range(channels):
        for _ in range(8):
          start = int(rng.integers(steps))
          hidden[d, start : start + length(10, 60), c] = True
    elif turn == 1:
      for _ in range(3):
        start = int(rng.integers(steps))
        hidden[d, start : start + length(60, 240)] = True
    elif turn == 2:
      start = int(rng.integers(steps))
      hidden[d, start : start + length(300, 720)] = True
    else:
      observed = np.flatnonzero(~np.isnan(values[d]).all(axis=0))
      if len(observed) > 1:
        hidden[d, :, rng.choice(observed)] = True
  return hidden


def error_quantiles(
  size: Float[np.ndarray, " values"],
  bins: Int[np.ndarray, " values"],
  who: Shaped[np.ndarray, " values"],
  level: float,
) -> list[float]:
  """The error of each bin that a share `level` of a channel's errors stay within, every person counting the same.

  A bin with fewer than FEWEST_VALUES errors has those of the nearest bin that has more, the farther one if two are as
  near; NaN if there is none.
  """
  found = [
    _quantile(size[bins == b], who[bins == b], level) if (bins == b).sum() >= FEWEST_VALUES else math.nan
    for b in range(len(BINS))
  ]
  known = [b for b, value in enumerate(found) if not math.isnan(value)]
  if not known:
    return found
  return [found[min(known, key=lambda other: (abs(other - b), -other))] for b in range(len(BINS))]


def _quantile(size: Float[np.ndarray, " values"], who: Shaped[np.ndarray, " values"], level: float) -> float:
  order = np.argsort(size, kind="stable")
  share = np.cumsum(_weights(who)[order])
  return float(size[order][min(np.searchsorted(share, level * share[-1]), len(size) - 1)])


def _weights(who: Shaped[np.ndarray, " values"]) -> Float[np.ndarray, " values"]:
  """One over the number of a person's values."""
  _, index, count = np.unique(who, return_inverse=True, return_counts=True)
  return 1 / count[index]


def _mean_of_people(inside: Bool[np.ndarray, " values"], who: Shaped[np.ndarray, " values"]) -> float:
  return float(np.average(inside, weights=_weights(who)))
