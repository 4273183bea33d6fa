"""--mode=evaluate: the generative tasks, the model beside the imputers on the same cells of people never seen."""

from __future__ import annotations

import pathlib

import ml_collections
import numpy as np

from aim.common.config_files import ConfigError
from aim.evaluation import results
from aim.evaluation.generative import day_figures, figures, pypots_export, score_files, summary
from aim.evaluation.generative.contest import HeldoutDays, check_imputers, contest
from aim.evaluation.generative.figures import generative_chart
from aim.evaluation.generative.scores import ScoreRow, Scores
from aim.evaluation.generative.tasks import GenerativeTask, generative_tasks, hidden_cells
from aim.inference.pretrained import Pretrained
from aim.runtime import processes
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Schema


def evaluate(config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, workdir: pathlib.Path) -> Scores:
  """Scores every task on config.split; writes workdir/generative.csv and workdir/evaluate/, prints the table.

  Several processes share the days, and the first writes.

  In evaluate/: channels.csv (errors of every channel), gap_length.csv (generative.csv's lines of interpolation),
  people.csv (sums per person, which scores.merge pools), and pictures.
  """
  model.check_dataset(dataset)
  model.check_has_decoder("--mode=evaluate")
  if not dataset.num_days(config.split):
    raise SchemaError(f"dataset {dataset.name!r} has no days in split {config.split!r} (config.evaluate.split)")
  check_imputers(config)
  tasks, told = _tasks(config, dataset.schema)
  for line in told:
    print(f"left out: {line}")
  days = HeldoutDays(config, model, dataset)
  external = pypots_export.externals(config.external)
  for imputation in external.values():
    imputation.check(tasks, days.wanted)
  if config.export and processes.is_first_process():
    pypots_export.export(days, tasks, config.export)
    print(f"{config.export}: the cells of {len(tasks)} tasks, and days to train on")
  scores = contest(model, days, tasks, external)
  for task in tasks:
    if task not in scores.tasks:
      print(f"left out: {task.label}: none of the {days.wanted} days has such cells")
  if not scores.tasks:
    raise ConfigError("config.evaluate: no task hides an observed cell of these days")
  if not processes.is_first_process():
    return scores
  rows = scores.table(config.bootstrap, config.seed)
  lines = summary.contest_results(scores, dataset.name, model.config.seed, config.bootstrap, config.seed)
  _write(scores, rows, lines, workdir)
  draw_day(days, model, workdir / "evaluate" / "day.png")
  _print(days, scores, rows, lines, workdir)
  return scores


def _tasks(config: ml_collections.ConfigDict, schema: Schema) -> tuple[tuple[GenerativeTask, ...], tuple[str, ...]]:
  """What the config asks for; ConfigError before anything is computed."""
  if config.days < 0:
    raise ConfigError(f"config.evaluate.days is {config.days}, expected a number of days, or 0 for all")
  try:
    tasks, told = generative_tasks(
      schema,
      random=config.random_percent,
      interpolation=sorted({*config.interpolation_minutes, *config.gap_minutes}),
      extrapolation=config.extrapolation_minutes,
      sensor=config.sensor_channels,
      sensor_of=config.sensor_of,
      public=config.scenarios.to_dict(),
    )
    nothing = np.full((schema.steps, len(schema.channels)), np.nan, np.float32)
    for task in tasks:
      hidden_cells(task, schema, "", 0, config.seed, config.random_patch_minutes, nothing)
  except ValueError as error:
    raise ConfigError(f"config.evaluate: {error}") from None
  if not tasks:
    raise ConfigError("config.evaluate: no task is left to score")
  return tasks, told


def _write(scores: Scores, rows: list[ScoreRow], lines: list[results.Result], workdir: pathlib.Path) -> None:
  output = workdir / "evaluate"
  output.mkdir(parents=True, exist_ok=True)
  results.write_csv(workdir / "generative.csv", lines)
  score_files.write_channels(output / "channels.csv", rows)
  results.write_csv(output / "gap_length.csv", [line for line in lines if line.task == "interpolation"])
  score_files.save_people(scores, output / "people.csv")
  generative_chart(rows, output / "generative.png")
  figures.scenario_chart(rows, output / "scenarios.png")
  figures.gap_chart(rows, output / "gap_length.png")
  figures.channel_chart(rows, output / "channels.png")


def _print(
  days: HeldoutDays, scores: Scores, rows: list[ScoreRow], lines: list[results.Result], workdir: pathlib.Path
) -> None:
  dataset = days.dataset
  people = len({person for of_people in scores.sums.values() for person in of_people})
  print(f"\n{dataset.name}: {people} people never seen in training, {days.wanted} days; mean squared error, z-scored")
  print("units, mean over channels [95 % interval over people]; * marks the lowest\n")
  print(score_files.format_table(rows) + "\n")
  print("\n".join([*summary.task_verdicts(lines), "", *summary.model_verdicts(lines)]))
  output = workdir / "evaluate"
  print(f"\n{workdir / 'generative.csv'}")
  for path in sorted([*output.glob("*.csv"), *output.glob("*.png")]):
    print(path)


def draw_day(days: HeldoutDays, model: Pretrained, path: pathlib.Path) -> None:
  """A held-out day with three hours hidden in all channels and one channel lost, and what the model puts there."""
  block = next(days.blocks())
  # The fullest day of the block shows most of what is compared.
  row = int(np.argmin(np.isnan(block["values"]).mean(axis=(1, 2))))
  values = block["values"][row]
  shown = values.copy()
  steps = len(shown)
  shown[int(steps * 13 / 24) : int(steps * 16 / 24)] = np.nan
  if values.shape[1] > 1:
    fullest = np.isnan(values).mean(axis=0).argsort(kind="stable")
    shown[:, fullest[0]] = np.nan
  reconstruction = model.physical(model.reconstruct(shown[None]))[0]
  who = f"participant {block['participant'][row]}, day {block['day'][row]}"
  dataset = days.dataset
  day_figures.day_chart(
    dataset.schema, values, shown, reconstruction, path, f"{dataset.name}: {who}, never seen in training"
  )
