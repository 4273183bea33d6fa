"""The generative contest: every method fills the same hidden cells of the same days, and its errors are summed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np

from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.evaluation.generative import fitted_imputers, imputers
from aim.evaluation.generative.scores import Scores, add
from aim.evaluation.generative.tasks import GenerativeTask, asked_days, hidden_days, target_cells
from aim.inference.pretrained import Pretrained
from aim.runtime import processes
from data_pipelines.dataset import Dataset
from data_pipelines.loader import eval_loader

PERSON = "person_time_of_day_mean"
IMPUTERS = ("mean", "nearest", "linear", "locf", "time_of_day_mean", PERSON, *fitted_imputers.FITTED)
BLOCK = 4  # batches of days that are held at once: the model sorts them by what they show, and pads less

# Fills z [D, S, C]; wanted bool [D, S, C] are the cells that are looked at.
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Units:
  """z-scores of every channel, binary ones too: what errors are reported in.

  Statistics are the checkpoint's: the observed minutes of its training people; continuous channels are clipped as in
  training, truth and predictions alike.
  """

  def __init__(self, model: Pretrained):
    self.scale = model.scale
    self.clip = np.where(self.scale.binary, np.inf, self.scale.clip)

  def of_values(self, values: np.ndarray) -> np.ndarray:
    """[..., S, C] in physical units, NaN kept."""
    z = (values - self.scale.reference_mean) / self.scale.reference_std
    return np.clip(z, -self.clip, self.clip).astype(np.float32)

  def of_prediction(self, z: np.ndarray) -> np.ndarray:
    """From Pretrained.reconstruct(): z-scores already, but for the probabilities of binary channels."""
    return np.where(self.scale.binary, (z - self.scale.reference_mean) / self.scale.reference_std, z)

  def physical(self, z: np.ndarray) -> np.ndarray:
    """z-scores [..., S, C] in the channels' own units."""
    return z * self.scale.reference_std + self.scale.reference_mean


class HeldoutDays:
  """The days that are scored, with all that the tasks and the imputers ask of them."""

  def __init__(self, config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset):
    self.config, self.dataset, self.units = config, dataset, Units(model)
    # A time of day never observed in training takes the channel's mean.
    self.means = np.nan_to_num(self.units.of_values(dataset.statistics.time_mean))
    self.total = dataset.num_days(config.split)
    self.wanted = min(config.days, self.total) if config.days else self.total
    # A cache of this object, not of the class, which would keep it alive.
    self._means_of = functools.lru_cache(maxsize=64)(self._compute_means_of)

  def blocks(self, host: int = 0, hosts: int = 1) -> Iterator[dict[str, Any]]:
    """Some hundred days at a time without padding; with config.days, that many spread evenly over the split.

    As eval_loader's, and `place`, the number of each day among those scored. Of several hosts each has every so many
    blocks, the same ones that one has alone.
    """
    chosen = np.unique(np.linspace(0, self.total - 1, self.wanted).round().astype(int)) if self.total else np.arange(0)
    size = BLOCK * self.config.batch_size
    loader = eval_loader(
      self.dataset, split=self.config.split, batch_size=size * hosts, process_index=host, process_count=hosts
    )
    for number, batch in enumerate(loader):
      first = (number * hosts + host) * size
      places = np.flatnonzero((chosen >= first) & (chosen < first + size))
      if len(places):
        yield {name: np.asarray(array)[chosen[places] - first] for name, array in batch.items()} | {"place": places}

  def hidden(self, task: GenerativeTask, block: Mapping[str, Any]) -> np.ndarray:
    """bool [D, S, C]: the cells of a block that a task hides."""
    people, days, config = block["participant"], block["day"], self.config
    asleep = self.asleep(people, days) if task.name == "sleep" else None
    return hidden_days(
      task, self.dataset.schema, people, days, config.seed, config.random_patch_minutes, block["values"], asleep
    )

  def target(self, task: GenerativeTask, block: Mapping[str, Any], hidden: np.ndarray) -> np.ndarray:
    """bool [D, S, C]: hidden, really observed, and of a day that the task is asked of."""
    asked = asked_days(task, self.wanted, self.config.days_a_task, self.config.seed)[block["place"]]
    return target_cells(hidden, block["values"]) & asked[:, None, None]

  def asleep(self, people: np.ndarray, days: np.ndarray) -> np.ndarray:
    """bool [D, S]: steps inside events whose name holds "sleep"."""
    asleep = np.zeros((len(people), self.dataset.schema.steps), bool)
    for i, key in enumerate(zip(people, days, strict=True)):
      for start, end in self._sleep.get((str(key[0]), int(key[1])), ()):
        asleep[i, start:end] = True
    return asleep

  @functools.cached_property
  def _sleep(self) -> dict[tuple[str, int], list[tuple[int, int]]]:
    found: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for event in self.dataset.events().to_pylist():
      if "sleep" in event["name"].lower() and event["value"]:
        found.setdefault((event["participant"], event["day"]), []).append((event["start"], event["end"]))
    return found

  def person_means(self, block: Mapping[str, Any]) -> np.ndarray:
    """[D, S, C]: the time-of-day means of the person's other days of the split."""
    return np.stack([
      self._means_of(str(person))[int(day)] for person, day in zip(block["participant"], block["day"], strict=True)
    ])  # fmt: skip

  @functools.cached_property
  def _positions(self) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for position, day in enumerate(self.dataset.days(self.config.split)):
      found.setdefault(day["participant"].decode(), []).append(position)
    return found

  def _compute_means_of(self, person: str) -> dict[int, np.ndarray]:
    source = self.dataset.days(self.config.split)
    days = [source[position] for position in self._positions[person]]
    means = imputers.person_means(self.units.of_values(np.stack([day["values"] for day in days])), self.means)
    return {int(day["day"]): mean for day, mean in zip(days, means, strict=True)}

  @functools.cached_property
  def fitted(self) -> dict[str, Method]:
    """The imputers of the config that learn, fitted."""
    names = [name for name in self.config.imputers if name in fitted_imputers.FITTED]
    return dict(fitted_imputers.fitted(names, self.training(), self.config.imputer_rows, self.config.seed))

  def training(self, most: int = fitted_imputers.DAYS) -> np.ndarray:
    """z-scores [D, S, C] of at most so many days of training people, evenly over them."""
    source = self.dataset.days("pretrain")
    chosen = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(int))
    return self.units.of_values(np.stack([source[int(i)]["values"] for i in chosen]))

  def methods(self, person_means: np.ndarray | None) -> dict[str, Method]:
    """The imputers of the config, for days with these means of their people [D, S, C] (None: not asked for)."""
    found: dict[str, imputers.Imputer] = imputers.imputers(self.means)
    if person_means is not None:
      found[PERSON] = functools.partial(imputers.time_of_day_mean, means=person_means)
    methods = {name: _of_day_alone(impute) for name, impute in found.items()}
    if set(self.config.imputers) & set(fitted_imputers.FITTED):
      methods |= self.fitted
    return {name: methods[name] for name in self.config.imputers}


def _of_day_alone(impute: imputers.Imputer) -> Method:
  return lambda z, wanted: impute(z)


def check_imputers(config: ml_collections.ConfigDict) -> None:
  for name in config.imputers:
    if name not in IMPUTERS:
      raise ConfigError(f"config.evaluate.imputers: {name!r}, expected some of {', '.join(IMPUTERS)}")


def contest(
  model: Pretrained, days: HeldoutDays, tasks: tuple[GenerativeTask, ...], external: Mapping[str, Any]
) -> Scores:
  """Accumulates the errors of all methods on all tasks; external: {name: aim.export.External}.

  Several processes share the days, and all have the sums in the end.
  """
  scores = Scores(days.dataset.schema.names)
  process_index, process_count = processes.process_index_and_count()
  with progress_bar(days.wanted * len(tasks), "evaluate", "day") as bar:
    for block in days.blocks(process_index, process_count):
      person = days.person_means(block) if PERSON in days.config.imputers else None
      for task in tasks:
        _score_block(scores, model, days, task, block, person, external)
        bar.update(process_count * len(block["values"]))
  return add(processes.gather(scores)) if process_count > 1 else scores


def _score_block(
  scores: Scores,
  model: Pretrained,
  days: HeldoutDays,
  task: GenerativeTask,
  block: Mapping[str, Any],
  person_means: np.ndarray | None,
  external: Mapping[str, Any],
) -> None:
  """All methods on one task of one block."""
  hidden = days.hidden(task, block)
  target = days.target(task, block, hidden)
  rows = np.flatnonzero(target.any(axis=(1, 2)))  # nothing is asked of the other days
  if not rows.size:
    return
  values, truth = block["values"][rows], days.units.of_values(block["values"][rows])
  known, known_in_units = np.nan_to_num(truth), np.nan_to_num(values)
  shown = ~hidden[rows]

  def add(name: str, z: np.ndarray) -> None:
    in_units = days.units.physical(z), known_in_units
    scores.add(task, name, block["participant"][rows], z, known, target[rows], in_units)

  add(model.name, days.units.of_prediction(model.reconstruct(np.where(shown, values, np.nan), target[rows])))
  for name, impute in days.methods(None if person_means is None else person_means[rows]).items():
    add(name, impute(np.where(shown, truth, np.nan), target[rows]))
  for name, imputation in external.items():
    if imputation.has(task):
      add(name, imputation.take(task, block, target)[rows])
