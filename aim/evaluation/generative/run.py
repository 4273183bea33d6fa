"""--mode=evaluate: the generative tasks, the model beside the imputers on the same values of people never seen."""

from __future__ import annotations

import pathlib

import ml_collections
import numpy as np

from aim.common.config_files import ConfigError
from aim.common.seen_people import SeenPeople
from aim.evaluation import results
from aim.evaluation.generative import clipping, day_figures, figures, pypots_export, score_files, summary
from aim.evaluation.generative.clipping import ClippedTruth
from aim.evaluation.generative.contest import HeldoutDays, run_contest
from aim.evaluation.generative.external_imputations import read_external
from aim.evaluation.generative.scores import ScoreRow, Scores
from aim.evaluation.generative.tasks import GenerativeTask, generative_tasks, hidden_values
from aim.evaluation.results import Result
from aim.inference.pretrained import Pretrained
from aim.runtime import processes
from data_pipelines.dataset import Dataset
from data_pipelines.schema import Schema
from data_pipelines.text_files import counted


def evaluate(config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, workdir: pathlib.Path) -> Scores:
  """Scores every task on config.split; writes workdir/generative.csv and workdir/evaluate/, prints the table.

  The folder evaluate gets channels.csv (errors of every channel), against_linear.csv (the model against linear
  interpolation, channel by channel), gap_length.csv (the lines of generative.csv about
  interpolation), people.csv (sums per person, which scores.merge pools), clipped.csv (truths beyond a channel's clip)
  and the figures. Several processes share the
  days, and the first one writes.

  Args:
    config: config.evaluate.
    model: the model to score.
    dataset: gives the held-out days.
    workdir: folder of the run.

  Raises:
    UserError: a value of the config cannot be used, or the model does not fit the dataset.
  """
  model.check_unseen_people(dataset)
  model.check_has_decoder("--mode=evaluate")
  dataset.require_days(config.split)
  tasks, notes = _tasks(config, dataset.schema)
  for note in notes:
    print(f"left out: {note}")
  days = HeldoutDays(config, model, dataset)
  external = read_external(config.external)
  for imputation in external.values():
    imputation.check(tasks, days.count)
  if config.export and processes.is_first_process():
    pypots_export.export_tasks(days, tasks, config.export)
    print(f"{config.export}: the hidden values of {counted(len(tasks), 'task')}, and days to train on")
  scores = run_contest(model, days, tasks, external)
  for task in tasks:
    if task not in scores.tasks:
      print(f"left out: {task.label}: hides no observed value on any day of {days.count:,}")
  if not scores.tasks:
    raise ConfigError("config.evaluate: no task hides an observed value of these days")
  if not processes.is_first_process():
    return scores
  rows = scores.table(config.bootstrap, config.seed)
  people = {person for of_method in scores.sums.values() for person in of_method}
  seen = model.seen_people(dataset, people)
  lines = summary.contest_results(scores, dataset.name, model.config.seed, config.bootstrap, config.seed)
  by_channel = summary.channel_results(scores, dataset.name, model.config.seed, config.bootstrap, config.seed)
  lines, by_channel = (results.marked_seen(of_file, model.name, seen.field) for of_file in (lines, by_channel))
  _write(scores, rows, lines, by_channel, workdir)
  clipped = days.clipping.clipped(dataset.schema)
  clipping.write_csv(workdir / "evaluate" / "clipped.csv", clipped)
  draw_day(days, model, workdir / "evaluate" / "day.png")
  _print(days, seen, rows, lines, by_channel, clipped, workdir)
  return scores


def _tasks(config: ml_collections.ConfigDict, schema: Schema) -> tuple[tuple[GenerativeTask, ...], tuple[str, ...]]:
  """The tasks of the config and notes on those left out; ConfigError before anything is computed."""
  try:
    tasks, notes = generative_tasks(
      schema,
      random=config.random_percent,
      interpolation=sorted({*config.interpolation_minutes, *config.gap_minutes}),
      extrapolation=config.extrapolation_minutes,
      sensor=config.sensor_channels,
      sensor_of=config.sensor_of,
      public=config.scenarios.to_dict(),
    )
    nothing_observed = np.full((schema.steps, len(schema.channels)), np.nan, np.float32)
    for task in tasks:
      hidden_values(task, schema, "", 0, config.seed, config.random_patch_minutes, nothing_observed)
  except ValueError as error:
    raise ConfigError(f"config.evaluate: {error}") from None
  if not tasks:
    raise ConfigError("config.evaluate: no task is left to score")
  return tasks, notes


def _write(
  scores: Scores, rows: list[ScoreRow], lines: list[Result], by_channel: list[Result], workdir: pathlib.Path
) -> None:
  output = workdir / "evaluate"
  output.mkdir(parents=True, exist_ok=True)
  results.write_csv(workdir / "generative.csv", lines)
  score_files.write_channels(output / "channels.csv", rows)
  results.write_csv(output / summary.BY_CHANNEL, by_channel)
  results.write_csv(output / "gap_length.csv", [line for line in lines if line.task == "interpolation"])
  score_files.save_people(scores, output / "people.csv")
  figures.generative_chart(rows, output / "generative.png")
  figures.scenario_chart(rows, output / "scenarios.png")
  figures.gap_chart(rows, output / "gap_length.png")
  figures.channel_chart(rows, output / "channels.png")


def _print(
  days: HeldoutDays,
  seen: SeenPeople,
  rows: list[ScoreRow],
  lines: list[Result],
  by_channel: list[Result],
  clipped: list[ClippedTruth],
  workdir: pathlib.Path,
) -> None:
  print(f"\n{days.dataset.name}: {seen.text}, {counted(days.count, 'day')}")
  print("Mean squared error in z-scored units, mean over channels [95 % interval over people]; * marks the lowest.\n")
  print(score_files.format_table(rows) + "\n")
  if notes := [*summary.channel_notes(by_channel), *summary.line_notes(lines), *clipping.notes(clipped)]:
    print("\n".join(f"note: {note}" for note in notes) + "\n")
  print("\n".join([*summary.task_verdicts(lines), "", *summary.model_verdicts(lines)]))
  output = workdir / "evaluate"
  print(f"\n{workdir / 'generative.csv'}")
  for path in sorted([*output.glob("*.csv"), *output.glob("*.png")]):
    print(path)


def draw_day(days: HeldoutDays, model: Pretrained, path: pathlib.Path) -> None:
  """PNG of a held-out day in which three hours of all channels and one whole channel are hidden from the model."""
  batch = next(days.batches())
  # The fullest day of the batch has the most values to compare with.
  row = int(np.argmin(np.isnan(batch["values"]).mean(axis=(1, 2))))
  values = batch["values"][row]
  visible = values.copy()
  steps = len(visible)
  visible[int(steps * 13 / 24) : int(steps * 16 / 24)] = np.nan
  if values.shape[1] > 1:
    fullest = np.isnan(values).mean(axis=0).argsort(kind="stable")
    visible[:, fullest[0]] = np.nan
  profile = days.profile({"position": batch["position"][[row]]})
  reconstruction = model.physical(model.reconstruct(visible[None], profile=profile))[0]
  who = f"participant {batch['participant'][row]}, day {batch['day'][row]}"
  seen = model.seen_people(days.dataset, [str(batch["participant"][row])]).trained_on
  history = {0: ", never seen in training", 1: ", trained on"}.get(-1 if seen is None else seen, "")
  title = f"{days.dataset.name}: {who}{history}"
  day_figures.day_chart(days.dataset.schema, values, visible, reconstruction, path, title)
