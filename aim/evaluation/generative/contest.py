"""The generative contest: every method fills the same hidden values of the same days, and its errors are summed.

[D, S, C] is days, steps and channels throughout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np
from jaxtyping import Bool, Float

from aim.common.progress import progress_bar
from aim.evaluation.generative import fitted_imputers, imputers, scores
from aim.evaluation.generative.clipping import ClippingCounts
from aim.evaluation.generative.external_imputations import ExternalImputation
from aim.evaluation.generative.scores import Scores
from aim.evaluation.generative.tasks import GenerativeTask, hidden_in_days, scored_days, scored_values
from aim.inference.pretrained import Pretrained
from aim.runtime import processes
from data_pipelines.context.other_days import OtherDays
from data_pipelines.context.profile import Profile
from data_pipelines.dataset import Dataset
from data_pipelines.loader import eval_loader
from data_pipelines.subset import day_owners

PERSON_MEAN = "person_time_of_day_mean"
# Model batches held in memory together. The model sorts their days by how much they show, so that it pads less.
MODEL_BATCHES = 4
# Whose means are kept for their next days, which follow one another. A person may have a year of them.
PEOPLE_IN_MEMORY = 2

# Fills the holes of z [D, S, C]. Only the values marked in scored, bool [D, S, C], are looked at.
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Units:
  """Converts between physical units and z-scores of every channel, binary ones too. Errors are reported in z-scores.

  The statistics are the checkpoint's, of the observed minutes of its training people. Continuous channels are clipped
  as in training, truth and predictions alike.
  """

  def __init__(self, model: Pretrained) -> None:
    self.scale = model.scale
    self.clip = np.where(self.scale.binary, np.inf, self.scale.clip)

  def z_scores(self, values: Float[np.ndarray, "*days s c"]) -> Float[np.ndarray, "*days s c"]:
    """z-scores of values in physical units; NaN stays NaN."""
    z = (values - self.scale.reference_mean) / self.scale.reference_std
    return np.clip(z, -self.clip, self.clip).astype(np.float32)

  def z_scores_of_prediction(self, prediction: Float[np.ndarray, "*days s c"]) -> Float[np.ndarray, "*days s c"]:
    """z-scores of what `Pretrained.reconstruct` returns: z-scores already, but probabilities in binary channels."""
    return np.where(self.scale.binary, (prediction - self.scale.reference_mean) / self.scale.reference_std, prediction)

  def limits(self) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """The smallest and the largest value of each channel that is not clipped, in physical units."""
    return self.physical(-self.clip), self.physical(self.clip)

  def physical(self, z: Float[np.ndarray, "*shape c"]) -> Float[np.ndarray, "*shape c"]:
    """z-scores in the channels' own units."""
    return z * self.scale.reference_std + self.scale.reference_mean


class HeldoutDays:
  """The days of people never seen in training, with everything that the tasks and the imputers need to know of them.

  Attributes:
    clipping: what run_contest scored of clipped truths.
  """

  def __init__(self, config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset) -> None:
    """Opens the days of config.split.

    Args:
      config: config.evaluate.
      model: gives the scale of the z-scores.
      dataset: gives days, people and events.
    """
    self.config, self.dataset, self.units = config, dataset, Units(model)
    # A time of day that was never observed in training takes the channel's mean.
    self.means = np.nan_to_num(self.units.z_scores(dataset.statistics.time_mean))
    self.days_in_split = dataset.num_days(config.split)
    self.count = min(config.days, self.days_in_split) if config.days else self.days_in_split
    self.clipping = ClippingCounts(*self.units.limits())
    self._context_days, self._on_corrupt = model.context_days, model.on_corrupt
    # A cache of this object alone: it must not outlive the evaluation.
    self._means_of_person = functools.lru_cache(maxsize=PEOPLE_IN_MEMORY)(self._read_means)

  def batches(self, process_index: int = 0, process_count: int = 1) -> Iterator[dict[str, Any]]:
    """Yields batches of some hundred days without padding; with config.days, that many spread evenly over the split.

    Only these days are read. The keys are those of `eval_loader`; `place`, the number of each day among those scored;
    and `position`, its number in the split. Each of several processes gets every process_count-th batch; the batches
    are the same for any number of processes.
    """
    last = self.days_in_split - 1
    chosen = np.unique(np.linspace(0, last, self.count).round().astype(int)) if self.days_in_split else np.arange(0)
    size = MODEL_BATCHES * self.config.batch_size
    loader = eval_loader(
      self.dataset,
      split=self.config.split,
      batch_size=size * process_count,
      process_index=process_index,
      process_count=process_count,
      indices=chosen,
    )
    for number, batch in enumerate(loader):
      first = (number * process_count + process_index) * size
      real = batch["weight"] > 0
      if real.any():
        place = first + np.flatnonzero(real)
        numbers = {"place": place, "position": chosen[place]}
        yield {name: np.asarray(array)[real] for name, array in batch.items()} | numbers

  def hidden(self, task: GenerativeTask, batch: Mapping[str, Any]) -> Bool[np.ndarray, "d s c"]:
    """The values of a batch that the task hides."""
    people, days, config = batch["participant"], batch["day"], self.config
    asleep = self.asleep(people, days) if task.name == "sleep" else None
    return hidden_in_days(
      task, self.dataset.schema, people, days, config.seed, config.random_patch_minutes, batch["values"], asleep
    )

  def scored(
    self, task: GenerativeTask, batch: Mapping[str, Any], hidden: Bool[np.ndarray, "d s c"]
  ) -> Bool[np.ndarray, "d s c"]:
    """The hidden values that were really observed, on days that the task is scored on."""
    days = scored_days(task, self.count, self.config.days_a_task, self.config.seed)[batch["place"]]
    return scored_values(hidden, batch["values"]) & days[:, None, None]

  def asleep(self, people: np.ndarray, days: np.ndarray) -> Bool[np.ndarray, "d s"]:
    """The steps inside events whose name contains "sleep", for participants [D] and day numbers [D]."""
    asleep = np.zeros((len(people), self.dataset.schema.steps), bool)
    for i, key in enumerate(zip(people, days, strict=True)):
      for start, end in self._sleep_events.get((str(key[0]), int(key[1])), ()):
        asleep[i, start:end] = True
    return asleep

  @functools.cached_property
  def _sleep_events(self) -> dict[tuple[str, int], list[tuple[int, int]]]:
    spans: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for event in self.dataset.events().to_pylist():
      if "sleep" in event["name"].lower() and event["value"]:
        spans.setdefault((event["participant"], event["day"]), []).append((event["start"], event["end"]))
    return spans

  def person_means(self, batch: Mapping[str, Any]) -> Float[np.ndarray, "d s c"]:
    """z-scores: for each day the time-of-day means of the person's other days of the split."""
    return np.stack([
      self._means_of_person(str(person))[int(day)]
      for person, day in zip(batch["participant"], batch["day"], strict=True)
    ])  # fmt: skip

  def profile(self, batch: Mapping[str, Any]) -> Profile | None:
    """The person's profile over the other days of the split, for each day of a batch; None if the model reads none.

    Those days are whole, as those that person_means averages.
    """
    return self._others.profiles(batch["position"]) if self._context_days else None

  @functools.cached_property
  def _others(self) -> OtherDays:
    return OtherDays(self.dataset, self.config.split, self._context_days, on_corrupt=self._on_corrupt)

  @functools.cached_property
  def _positions(self) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, person in enumerate(day_owners(self.dataset, self.config.split)[0].tolist()):
      positions.setdefault(person, []).append(position)
    return positions

  def _read_means(self, person: str) -> dict[int, np.ndarray]:
    source = self.dataset.days(self.config.split)
    days = [source[position] for position in self._positions[person]]
    means = imputers.person_means(self.units.z_scores(np.stack([day["values"] for day in days])), self.means)
    return {int(day["day"]): mean for day, mean in zip(days, means, strict=True)}

  @functools.cached_property
  def fitted(self) -> dict[str, Method]:
    """The imputers of the config that learn, fitted on training people."""
    names = [name for name in self.config.imputers if name in fitted_imputers.FITTED]
    return dict(fitted_imputers.fit(names, self.training_days(), self.config.imputer_rows, self.config.seed))

  def training_days(self, most: int = fitted_imputers.DAYS) -> Float[np.ndarray, "d s c"]:
    """z-scores of at most `most` days of training people, spread evenly over all of theirs."""
    source = self.dataset.days("pretrain")
    chosen = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(int))
    return self.units.z_scores(np.stack([source[int(i)]["values"] for i in chosen]))

  def methods(self, person_means: Float[np.ndarray, "d s c"] | None) -> dict[str, Method]:
    """The imputers of the config, for days of people with these means; None where no imputer uses them."""
    of_day: dict[str, imputers.Imputer] = imputers.imputers(self.means)
    if person_means is not None:
      of_day[PERSON_MEAN] = functools.partial(imputers.time_of_day_mean, means=person_means)
    methods = {name: _method(impute) for name, impute in of_day.items()}
    if set(self.config.imputers) & set(fitted_imputers.FITTED):
      methods |= self.fitted
    return {name: methods[name] for name in self.config.imputers}


def _method(impute: imputers.Imputer) -> Method:
  """An imputer that fills every hole, whether it is scored or not."""
  return lambda z, scored: impute(z)


def run_contest(
  model: Pretrained, days: HeldoutDays, tasks: tuple[GenerativeTask, ...], external: Mapping[str, ExternalImputation]
) -> Scores:
  """Sums the errors of all methods on all tasks.

  Several processes share the days; all of them return the sums over all days.

  Args:
    model: the first method of the scores.
    days: the days to score; their config names the imputers.
    tasks: what to hide.
    external: imputations made elsewhere, by name.
  """
  own = Scores(days.dataset.schema.names)
  process_index, process_count = processes.process_index_and_count()
  with progress_bar(days.count * len(tasks), "evaluate", "day") as bar:
    for batch in days.batches(process_index, process_count):
      person_means = days.person_means(batch) if PERSON_MEAN in days.config.imputers else None
      profile = days.profile(batch)
      for task in tasks:
        _score_batch(own, model, days, task, batch, person_means, profile, external)
        bar.update(process_count * len(batch["values"]))
  if process_count == 1:
    return own
  parts = processes.gather((own, days.clipping))
  days.clipping = ClippingCounts(*days.units.limits())
  for _, clipping in parts:
    days.clipping.include(clipping)
  return scores.add([part for part, _ in parts])


def _score_batch(
  sums: Scores,
  model: Pretrained,
  days: HeldoutDays,
  task: GenerativeTask,
  batch: Mapping[str, Any],
  person_means: np.ndarray | None,
  profile: Profile | None,
  external: Mapping[str, ExternalImputation],
) -> None:
  """Adds the errors of all methods on one task and one batch of days."""
  hidden = days.hidden(task, batch)
  scored = days.scored(task, batch, hidden)
  rows = np.flatnonzero(scored.any(axis=(1, 2)))  # the other days have nothing to score
  if not rows.size:
    return
  values, truth = batch["values"][rows], days.units.z_scores(batch["values"][rows])
  known, known_in_units = np.nan_to_num(truth), np.nan_to_num(values)
  days.clipping.add(task, values, scored[rows])
  visible = ~hidden[rows]

  def add(name: str, z: np.ndarray) -> None:
    in_units = days.units.physical(z), known_in_units
    sums.add(task, name, batch["participant"][rows], z, known, scored[rows], in_units)

  of_rows = None if profile is None else profile.at(rows)
  reconstruction = model.reconstruct(np.where(visible, values, np.nan), scored[rows], profile=of_rows)
  add(model.name, days.units.z_scores_of_prediction(reconstruction))
  for name, impute in days.methods(None if person_means is None else person_means[rows]).items():
    add(name, impute(np.where(visible, truth, np.nan), scored[rows]))
  for name, imputation in external.items():
    if imputation.has(task):
      add(name, imputation.values(task, batch, scored)[rows])
