"""Weights on a data set that they have never seen: as they are, continued, and against starting from nothing.

  python -m benchmarks.left_out --input=../shared/data --output=runs/left_out --set=t1d_uom [--people=4,1,2,6]
      [--pretrain_steps=1600] [--steps=400] [--factor=1.0] [--statistics=data]

Trains the recipe of the shipped weights without the set (benchmarks.weights --without). Half of the set's people are
scored; of the others, the first N of --people are trained on, once from nothing and once from those weights, for equal
steps. A repeated command goes on where it stopped. It writes, below --output/SET, everyone.csv (the weights as they are
against linear interpolation and both means of the time of day, on all people of the set: each half with the means of
the other), zero_shot.csv (on the scored half, also against what was trained on the set, if that has five-minute steps
too), continued.csv (continued against from nothing, for every N), and mse.csv (the errors themselves). Errors are in
z-scores of the data of the run from nothing with the most people; rows of a channel and of their mean ("all");
intervals over people.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from absl import flags

from aim.evaluation import results
from aim.evaluation.generative import score_files
from aim.evaluation.generative.scores import Scores
from aim.evaluation.generative.summary import SKILL, channel_results, contest_results
from aim.evaluation.results import Result
from benchmarks import programs, weights
from data_pipelines import splits
from data_pipelines.dataset import Dataset
from data_pipelines.npz import NpzSource
from data_pipelines.source import MAX_MISSING

CONFIG = weights.CONFIG
BASELINES = ("linear", "time_of_day_mean", "person_time_of_day_mean")
# Short runs: the average over the last 500 steps would be one over the whole run, and of its random start.
OVERRIDES = ("--config.optimizer.ema=0.99", "--config.checkpoint.every_steps=1000", "--config.evaluate_every=0")
ZERO_SHOT = "zero-shot"
MINUTES = 5  # per step, of the weights
DRAWS = 1000  # of people, for the intervals
# Gaps of all channels alone: what other tasks hide depends on the number of the model's channels.
TASKS = ("interpolation", "extrapolation")
SCORED = (
  *("--config.evaluate.random_percent=()", "--config.evaluate.sensor_channels=()", "--config.evaluate.gap_minutes=()"),
  "--config.evaluate.extrapolation_minutes=(60,)",
)


def main(argv: Sequence[str]) -> None:
  """argv[1:] are overrides of the config of the weights and of the runs on the set."""
  chosen, name = flags.FLAGS, flags.FLAGS.set
  output = pathlib.Path(chosen.output) / name
  whole, counts = output / "weights", [int(count) for count in chosen.people]
  programs.run_module(
    "benchmarks.weights", f"--input={chosen.input}", f"--output={whole}", f"--without={name}", "--score=",
    f"--config.total_steps={chosen.pretrain_steps}", *argv[1:],
  )  # fmt: skip
  data = build(name, pathlib.Path(chosen.input), output, counts)
  files = {}
  for count in counts:
    for start in ("nothing", "weights"):
      settings = f"_x{chosen.factor:g}_{chosen.statistics}" if start == "weights" else ""
      workdir = output / f"{start}{count}{settings}"
      files[f"{start} {count}"] = cell(
        workdir, data, f"{name}_{count}", whole / "run" if start == "weights" else None, argv
      )
  scored = f"--config.data.name={name}_{max(counts)}"
  files[ZERO_SHOT] = evaluate(output / ZERO_SHOT, data, scored, [f"--checkpoint={whole / 'run'}"])
  other_half = evaluate(
    output / f"{ZERO_SHOT}_other_half", data, f"--config.data.name={name}_other_half", [f"--checkpoint={whole / 'run'}"]
  )
  reference = f"nothing {max(counts)}"
  everyone = on_everyone([files[ZERO_SHOT], other_half], files[reference])
  results.write_csv(output / "everyone.csv", compared(name, everyone, ZERO_SHOT, BASELINES))
  if Dataset.open(str(data), f"{name}_{max(counts)}").schema.minutes_per_step == MINUTES:
    scores = gathered(files, reference, [ZERO_SHOT, reference])
    results.write_csv(output / "zero_shot.csv", compared(name, scores, ZERO_SHOT, [*BASELINES, reference]))
  else:  # runs on the set have its clock, and so other values to predict
    print(f"{name}: not of {MINUTES}-minute steps, so the weights as they are and runs on the set are not compared")
    del files[ZERO_SHOT]
  results.write_csv(output / "mse.csv", errors(name, files, reference))
  pairs = [(f"weights {count}", f"nothing {count}") for count in sorted(counts)]
  lines = [
    line
    for model, other in pairs
    for line in compared(name, gathered(files, reference, [model, other]), model, [other, *BASELINES])
  ]
  results.write_csv(output / "continued.csv", lines)
  for line in lines:
    if line.compared_with.startswith("nothing") and "," not in line.level:
      assert line.difference
      print(f"{line.model} against {line.compared_with}, {line.task} {line.level}: {line.difference.verdict}")


def build(name: str, source: pathlib.Path, output: pathlib.Path, counts: Sequence[int]) -> pathlib.Path:
  """Builds the set once for every number of training people; the same half of the people is scored in each.

  A further one has the halves swapped.
  """
  path = weights.input_of(name, source, output / "inputs")
  days = np.load(path)
  owners, observed = days["participant"].astype(str), ~np.isnan(days["values"]).all(axis=1)
  people = splits.ranked(NpzSource(path, MAX_MISSING).participants, name)  # some have no day that is built
  scored, rest = people[: len(people) // 2], people[len(people) // 2 :]
  # Those with the most channels come first: a channel of which nothing is known cannot be normalised.
  rest.sort(key=lambda person: -observed[owners == person].any(axis=0).sum())
  (output / "inputs").mkdir(parents=True, exist_ok=True)
  divided = {f"{name}_other_half": {"pretrain": scored, "tune": [], "eval": rest}}
  for count in counts:
    assert count <= len(rest), f"--people={count}, expected at most {len(rest)}"
    divided[f"{name}_{count}"] = {"pretrain": rest[:count], "tune": rest[count:], "eval": scored}
  for built, split in divided.items():
    split_file = output / "inputs" / f"{built}.json"
    split_file.write_text(json.dumps(split))
    programs.run_module(
      "data_pipelines.build", "--source=npz", f"--input={path}", f"--data_dir={output / 'data'}", f"--name={built}",
      f"--split_file={split_file}",
    )  # fmt: skip
  return output / "data"


def cell(
  workdir: pathlib.Path, data: pathlib.Path, name: str, start: pathlib.Path | None, argv: Sequence[str]
) -> pathlib.Path:
  """Trains on a few people, from weights or from nothing, and scores; returns the file of scores."""
  # A mix of one set: its channels have the vocabulary's names, as those of the weights.
  run = [f"--config={CONFIG}", f"--config.data.dir={data}", f"--config.data.mix={((name, 1.0),)!r}"]
  run += [f"--config.total_steps={flags.FLAGS.steps}", *OVERRIDES, *argv[1:]]
  if start is not None:
    run += [f"--config.init.checkpoint={start}", f"--config.init.learning_rate={flags.FLAGS.factor}"]
    run += [f"--config.init.statistics={flags.FLAGS.statistics}"]
  programs.run_module("aim.main", *run, f"--workdir={workdir}")
  return evaluate(workdir / "scores", data, f"--config.data.name={name}", [f"--checkpoint={workdir}"])


def evaluate(workdir: pathlib.Path, data: pathlib.Path, name: str, arguments: Sequence[str]) -> pathlib.Path:
  """Scores a checkpoint on the scored half, unless that was done."""
  people = workdir / "evaluate" / "people.csv"
  if not people.exists():
    programs.run_module(
      "aim.main", "--mode=evaluate", f"--config={CONFIG}", f"--config.data.dir={data}", name, f"--workdir={workdir}",
      f"--config.evaluate.days={flags.FLAGS.days}", *SCORED, *arguments,
    )  # fmt: skip
  return people


def gathered(files: dict[str, pathlib.Path], reference: str, models: Sequence[str]) -> Scores:
  """The scores of some models, and the baselines of the reference, on the channels that all of them can fill."""
  of_reference = score_files.load_people(files[reference])
  loaded = {model: score_files.load_people(files[model]) for model in models}
  sources = [(model, loaded[model], loaded[model].methods[0]) for model in models]
  return merged([*sources, *((method, of_reference, method) for method in BASELINES)], of_reference)


def on_everyone(halves: Sequence[pathlib.Path], reference: pathlib.Path) -> Scores:
  """The scores of a model and of the baselines on people who were scored in several parts."""
  loaded = [score_files.load_people(half) for half in halves]
  sources = [(ZERO_SHOT, scores, scores.methods[0]) for scores in loaded]
  sources += [(method, scores, method) for method in BASELINES for scores in loaded]
  return merged(sources, score_files.load_people(reference))


def merged(sources: Sequence[tuple[str, Scores, str]], reference: Scores) -> Scores:
  """Scores under new names, from (name, scores, method in them), on the channels that all of them have values of.

  Models that were trained on other data normalise with other statistics, so their errors are taken in physical units
  and divided by the reference's variance of each channel.
  """
  variance = channel_variances(reference)
  filled = lambda scores, channel: any(
    sums[0, scores.channels.index(channel)] for people in scores.sums.values() for sums in people.values()
  )
  everywhere = [reference, *(scores for _, scores, _ in sources)]
  channels = [
    channel
    for channel in reference.channels
    if all(channel in scores.channels and filled(scores, channel) for scores in everywhere)
  ]
  together = Scores(channels)
  for name, scores, method in sources:
    columns = [scores.channels.index(channel) for channel in channels]
    for task in (task for task in reference.tasks if task.name in TASKS):
      for person, sums in scores.sums[task, method].items():
        own = sums[:, columns].copy()
        own[1] = own[4] / [variance[channel] for channel in channels]
        together.sums[task, name][person] = own
  return together


def channel_variances(scores: Scores) -> dict[str, float]:
  """The variance, in physical units, that the z-scores of each channel were made with."""
  sums = np.sum([sums for people in scores.sums.values() for sums in people.values()], axis=0)
  return {channel: sums[4, c] / sums[1, c] for c, channel in enumerate(scores.channels) if sums[1, c] > 0}


def errors(name: str, files: dict[str, pathlib.Path], reference: str) -> Iterator[Result]:
  """The mse of every model and baseline, as a mean over the channels that all can fill and by channel."""
  yield from error_lines(name, gathered(files, reference, list(files)))


def error_lines(name: str, scores: Scores) -> Iterator[Result]:
  """The mse of every method of some scores, with its interval over people."""
  for row in scores.table():
    if not math.isnan(row.mse):
      level = next(task.amount for task in scores.tasks if (task.name, task.level) == (row.task, row.level))
      level = level if row.channel == "all" else f"{level}, {row.channel}"
      yield Result(name, row.task, level, row.method, "mse", row.mse, row.ci_low, row.ci_high, 0, 0)


def compared(name: str, scores: Scores, model: str, others: Sequence[str]) -> Iterator[Result]:
  """Paired differences of a model, the first of the scores, with others: as a mean over the channels and by channel."""
  for result in contest_results(scores, name, 0, DRAWS, 0):
    if result.model == model and result.compared_with in others and result.metric != SKILL:
      yield result
  for other in others:
    yield from channel_results(scores, name, 0, DRAWS, 0, other)


if __name__ == "__main__":
  flags.DEFINE_string("input", None, "Folder of the npz files.", required=True)
  flags.DEFINE_string("output", None, "Folder for all that is made.", required=True)
  flags.DEFINE_enum("set", None, sorted(weights.SHARES), "The set that is left out.", required=True)
  flags.DEFINE_list("people", ["4", "1", "2", "6"], "Numbers of people of the set to train on.")
  flags.DEFINE_integer("pretrain_steps", 1600, "Steps of the weights.")
  flags.DEFINE_integer("steps", 400, "Steps of each run on the set.")
  flags.DEFINE_float("factor", 1.0, "Of the learning rate, where a run starts from the weights.")
  flags.DEFINE_enum("statistics", "data", ["checkpoint", "data"], "What normalises a run that starts from the weights.")
  flags.DEFINE_integer("days", 150, "Days to score at most; 0: all.")
  programs.run_main(main)
