"""Probes encoders for what they know about people of a data set: one that never saw it, one that did, one untrained.

  python -m benchmarks.left_out_probes --input=../shared/data --output=runs/left_out [--set=nhanes] [--task=age]
      [--pretrain_steps=1600] [--folds=5] [--stand_in=activity_counts_hip:mss:activity_counts_chest]

Trains the recipe of the shipped weights without the set, and with it for as many steps, once for each fold of the set's
people, whom that encoder does not see. Linear probes on the frozen encoders predict the label of the people of each
fold, fitted on the others, beside the baselines of --mode=probe. --folds=2 does the first two of the five folds. A
repeated command goes on where it stopped. It writes --output/probes_SET/TASK.csv.

A set whose channels are in no other cannot be read by an encoder that never saw it. --stand_in=OWN:OTHER:CHANNEL gives
that encoder, and the one that is not trained, the set's channel OWN as CHANNEL of the set OTHER, scaled to its SD.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

from aim.evaluation import predictions, results
from benchmarks import programs, weights

NEVER, SAW, UNTRAINED = "never saw the set", "saw the set", "not trained"
MINUTES = 5  # per step, of the weights
OVERRIDES = ("--config.optimizer.ema=0.99", "--config.checkpoint.every_steps=800", "--config.evaluate_every=0")


def main(argv: Sequence[str]) -> None:
  """argv[1:] are overrides of the config of the weights."""
  chosen = flags.FLAGS
  name, output = chosen.set, pathlib.Path(chosen.output) / f"probes_{chosen.set}"
  source, data = pathlib.Path(chosen.input), output / "data"
  for each in weights.SHARES:
    weights.build(each, source, output / "inputs", data)
  own = weights.input_of(name, source, output / "inputs")
  read = stand_in(chosen.stand_in, own, source, output / "inputs") if chosen.stand_in else own
  folds = range(chosen.folds)
  # The recipe's own dataset holds out the first fold.
  built = {path: [name if path == own and not k else f"{path.stem}_fold{k}" for k in folds] for path in (own, read)}
  for path, names in built.items():
    for k, fold in enumerate(names):
      programs.run_module(
        "data_pipelines.build", "--source=npz", f"--input={path}", f"--data_dir={data}", f"--name={fold}",
        f"--folds={weights.FOLDS}", f"--fold={k}",
      )  # fmt: skip
  others = {each: share for each, share in weights.SHARES.items() if each != name}
  still = ["--config.optimizer.learning_rate=1e-12"]  # one step at next to none leaves the random start as it was
  never = trained(output / "never", data, others, chosen.pretrain_steps, argv)
  untrained = trained(output / "untrained", data, others, 1, [*argv, *still])
  saw = [
    trained(
      output / f"saw_fold{k}",
      data,
      {fold if each == name else each: share for each, share in weights.SHARES.items()},
      chosen.pretrain_steps,
      argv,
    )
    for k, fold in enumerate(built[own])
  ]
  found = []
  for label, encoders, names in (
    (NEVER, [never] * chosen.folds, built[read]),
    (SAW, saw, built[own]),
    (UNTRAINED, [untrained] * chosen.folds, built[read]),
  ):
    paths = [probed(encoder, data, fold) for encoder, fold in zip(encoders, names, strict=True)]
    for of_model in predictions.read_folds(paths, name):
      if of_model.model not in predictions.BASELINES:
        found.append(dataclasses.replace(of_model, model=label))
      elif label == SAW:
        found.append(of_model)
  lines = predictions.score(found, against=(SAW, UNTRAINED, *predictions.BASELINES))
  table = output / f"{chosen.task}.csv"
  results.write_csv(table, lines)
  print(predictions.format_tables(lines))
  print(f"wrote {table}")


def trained(
  workdir: pathlib.Path, data: pathlib.Path, shares: Mapping[str, float], steps: int, argv: Sequence[str]
) -> pathlib.Path:
  """The workdir of an encoder that was trained on these shares of sets."""
  programs.run_module(
    "aim.main", f"--config={weights.CONFIG}", f"--config.data.dir={data}",
    f"--config.data.mix={tuple(shares.items())!r}", f"--config.total_steps={steps}", *OVERRIDES, *argv[1:],
    f"--workdir={workdir}",
  )  # fmt: skip
  return workdir


def stand_in(wanted: str, path: pathlib.Path, source: pathlib.Path, inputs: pathlib.Path) -> pathlib.Path:
  """The npz file of the set with one channel under the name, and at the SD, of a channel of another set."""
  own, other, channel = wanted.split(":")
  content = dict(np.load(path))
  place = list(content["channels"]).index(own)
  values = content["values"].copy()
  values[..., place] *= sd(weights.input_of(other, source, inputs), channel) / sd(path, own)
  channels = np.array([channel if each == own else each for each in content["channels"]])
  made = inputs / f"{path.stem}_as_{channel}.npz"
  np.savez_compressed(made, **content | {"values": values, "channels": channels})
  return made


def sd(path: pathlib.Path, channel: str) -> float:
  """The SD of a channel's sums over five minutes, of observed minutes."""
  with np.load(path) as content:
    values = content["values"][..., list(content["channels"]).index(channel)].astype(np.float64)
    parts = values.reshape(len(values), -1, MINUTES // int(content["minutes_per_step"]))
  return float(np.nansum(parts, axis=-1)[~np.isnan(parts).all(axis=-1)].std())


def probed(workdir: pathlib.Path, data: pathlib.Path, name: str) -> pathlib.Path:
  """The predictions for the held-out people of a fold, by a probe on the others."""
  scores = workdir / "probes" / name
  path = scores / "probe" / "predictions.csv"
  if not path.exists():
    programs.run_module(
      "aim.main", "--mode=probe", f"--config={weights.CONFIG}", f"--config.data.dir={data}",
      f"--config.data.name={name}", f"--config.probe.tasks={(flags.FLAGS.task,)!r}",
      "--config.probe.pool=mean_std", "--config.probe.pca=0", f"--checkpoint={workdir}", f"--workdir={scores}",
    )  # fmt: skip
  return path


if __name__ == "__main__":
  flags.DEFINE_string("input", None, "Folder of the npz files.", required=True)
  flags.DEFINE_string("output", None, "Folder for all that is made.", required=True)
  flags.DEFINE_enum("set", "nhanes", sorted(weights.SHARES), "The set of the people.")
  flags.DEFINE_string("task", "age", "The label.")
  flags.DEFINE_string("stand_in", None, "OWN:OTHER:CHANNEL, for a set whose channels are in no other.")
  flags.DEFINE_integer("pretrain_steps", 1600, "Steps of the encoders.")
  flags.DEFINE_integer("folds", weights.FOLDS, "Of the five folds of people, how many to score.", 1, weights.FOLDS)
  programs.run_main(main)
