"""--mode=evaluate: the four generative tasks, the model beside the trivial imputers on the same cells."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np

from aim import figures, imputers, metrics
from aim.pretrained import Pretrained
from aim.scores import Scores, format_table, write_csv
from aim.settings import ConfigError
from aim.tasks import Task, generative_tasks, hidden_cells, hidden_days, target_cells
from data_pipelines.dataset import Dataset
from data_pipelines.loader import eval_loader
from data_pipelines.schema import Schema, SchemaError


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


def evaluate(config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path) -> Scores:
  """Scores every task on config.split, writes generative.csv, people.csv and figures to `output`, prints the table."""
  model.check_dataset(dataset)
  if not dataset.num_days(config.split):
    raise SchemaError(f"dataset {dataset.name!r} has no days in split {config.split!r} (config.evaluate.split)")
  output.mkdir(parents=True, exist_ok=True)
  tasks, left_out = _tasks(config, dataset.schema)
  for line in left_out:
    print(f"left out: {line}")
  scores = score(config, model, dataset, tasks)
  rows = scores.table(config.bootstrap, config.seed)
  write_csv(output / "generative.csv", rows)
  scores.save_people(output / "people.csv")
  figures.generative_chart(rows, output / "generative.png")
  draw_day(config, model, dataset, output / "day.png")
  days = min(config.days or dataset.num_days(config.split), dataset.num_days(config.split))
  people = len(dataset.people(config.split))
  print(f"\n{dataset.name}: {people} people never seen in training, {days} days; mean squared error, z-scored units,")
  print("mean over channels [95 % interval over people]; * marks the lowest\n")
  print(format_table(rows) + "\n")
  for other in scores.methods[1:]:
    print(_verdict(scores, model.name, other, config))
  print(f"\n{output / 'generative.csv'}\n{output / 'generative.png'}\n{output / 'day.png'}")
  return scores


def _tasks(config: ml_collections.ConfigDict, schema: Schema) -> tuple[tuple[Task, ...], tuple[str, ...]]:
  """What the config asks for; ConfigError before anything is computed."""
  if config.days < 0:
    raise ConfigError(f"config.evaluate.days is {config.days}, expected a number of days, or 0 for all")
  try:
    tasks, left_out = generative_tasks(
      schema,
      random=config.random_percent,
      interpolation=config.interpolation_minutes,
      extrapolation=config.extrapolation_minutes,
      sensor=config.sensor_channels,
    )
    for task in tasks:
      hidden_cells(task, schema, "", 0, config.seed, config.random_patch_minutes)
  except ValueError as error:
    raise ConfigError(f"config.evaluate: {error}") from None
  if not tasks:
    raise ConfigError("config.evaluate: no task is left to score")
  return tasks, left_out


def _verdict(scores: Scores, ours: str, other: str, config: ml_collections.ConfigDict) -> str:
  """One line on the model against an imputer, paired over people."""
  differences = scores.difference(ours, other, config.bootstrap, config.seed)
  lower = [d for d in differences if d.percent < 0]
  surely = [d for d in lower if d.ci_high < 0]
  higher = ", ".join(Task(d.task, d.level).label for d in differences if d.percent >= 0)
  line = f"{ours} below {other}: {len(lower)} of {len(differences)} rows, {len(surely)} beyond chance (95 %)"
  return f"{line}; not in {higher}" if higher else line


def score(config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, tasks: tuple[Task, ...]) -> Scores:
  """Accumulates the errors of all methods on all tasks."""
  units = Units(model)
  # A time of day never observed in training takes the channel's mean.
  means = np.nan_to_num(units.of_values(dataset.statistics.time_mean))
  methods = imputers.imputers(means)
  scores = Scores(dataset.schema.names)
  batches = list(days_of(config, dataset))
  with metrics.progress(len(batches) * len(tasks), "evaluate", "batch") as bar:
    for batch in batches:
      values, people = batch["values"], batch["participant"]
      truth = units.of_values(values)
      known = np.nan_to_num(truth)
      for task in tasks:
        hidden = hidden_days(task, dataset.schema, people, batch["day"], config.seed, config.random_patch_minutes)
        target = target_cells(hidden, values)
        shown = np.where(hidden, np.nan, values)
        predicted = units.of_prediction(model.reconstruct(shown))
        scores.add(task, model.name, people, predicted, known, target)
        holed = np.where(hidden, np.nan, truth)
        for name, impute in methods.items():
          scores.add(task, name, people, impute(holed), known, target)
        bar.update()
  return scores


def days_of(config: ml_collections.ConfigDict, dataset: Dataset) -> Iterator[dict[str, Any]]:
  """Batches of the split's days without padding; with config.days, that many spread evenly over the split."""
  total = dataset.num_days(config.split)
  wanted = min(config.days, total) if config.days else total
  chosen = set(np.linspace(0, total - 1, wanted).round().astype(int).tolist()) if total else set()
  position = 0
  for batch in eval_loader(dataset, split=config.split, batch_size=config.batch_size):
    real = int(batch["weight"].sum())
    keep = [i for i in range(real) if position + i in chosen]
    position += real
    if keep:
      yield {name: np.asarray(array)[keep] for name, array in batch.items()}


def draw_day(config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, path: pathlib.Path) -> None:
  """A held-out day with three hours hidden in all channels and one channel lost, and what the model puts there."""
  batch = next(days_of(config, dataset))
  # The fullest day of the batch shows most of what is compared.
  row = int(np.argmin(np.isnan(batch["values"]).mean(axis=(1, 2))))
  values = batch["values"][row]
  shown = values.copy()
  steps = len(shown)
  shown[int(steps * 13 / 24) : int(steps * 16 / 24)] = np.nan
  if values.shape[1] > 1:
    fullest = np.isnan(values).mean(axis=0).argsort(kind="stable")
    shown[:, fullest[0]] = np.nan
  reconstruction = model.physical(model.reconstruct(shown[None]))[0]
  who = f"participant {batch['participant'][row]}, day {batch['day'][row]}"
  figures.day_chart(
    dataset.schema, values, shown, reconstruction, path, f"{dataset.name}: {who}, never seen in training"
  )
