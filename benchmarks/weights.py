"""The recipe of the shipped weights: builds the data sets, trains on them together, scores, and exports.

  python -m benchmarks.weights --input=../shared/data --output=runs/lsm2-watch-xs [--without=t1d_uom]
      [--simulated=0.25] [--config.total_steps=20000 ...]

Of each set a fifth of the people is held out (fold 0 of 5); only the pretrain people of each are trained on. A
repeated command goes on where it stopped. With --without a set is left out of the training and scored all the same,
for what a model does on data of a kind that it has never seen. With --simulated this share of the training days is of
simulated people, which share heart rate, steps and two measures of its variability with the sets. It writes, below
--output, data/ (the sets as they were built), halved/ (again, the held-out people in two halves), run/ (the workdir),
scores/SET/ (on the held-out people of that set) and, with nothing left out, export/: the folder that is shipped.
"""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

from aim.evaluation import results, scored_model
from benchmarks import programs
from data_pipelines import splits

CONFIG = "lsm2_watch_xs"
CARD = pathlib.Path(__file__).with_name("weights_card.yaml")
FOLDS = 5
# The share of the training days that comes from each set. Small sets would be learnt by heart, and NHANES alone has a
# third of all days but one channel.
SHARES = {"t1d_uom": 0.35, "mss": 0.15, "nhanes": 0.15, "fitabase": 0.25, "melidos": 0.06, "mhealth1": 0.04}
SIMULATED_PEOPLE, SIMULATED_DAYS = 100, 5
CALIBRATED = ("t1d_uom", "mss", "nhanes", "fitabase", "melidos")  # those with held-out people


def main(argv: Sequence[str]) -> None:
  """argv[1:] are overrides such as --config.total_steps=1000."""
  source, output = pathlib.Path(flags.FLAGS.input), pathlib.Path(flags.FLAGS.output)
  data, workdir = output / "data", output / "run"
  shares = {name: share for name, share in SHARES.items() if name not in flags.FLAGS.without}
  unknown = sorted(set(flags.FLAGS.without) - set(SHARES))
  assert not unknown and shares, f"--without={flags.FLAGS.without}, expected some of {', '.join(SHARES)}"
  for name in SHARES:
    build(name, source, output / "inputs", data)
  if simulated := flags.FLAGS.simulated:
    shares = with_simulated(shares, simulated, data)
  mix = tuple(shares.items())
  common = [f"--config={CONFIG}", f"--config.data.dir={data}", f"--config.data.mix={mix!r}", f"--workdir={workdir}"]
  programs.run_module("aim.main", *common, *argv[1:])
  for name in flags.FLAGS.score:
    scores = output / "scores" / name
    if not (scores / "evaluate" / "people.csv").exists():
      programs.run_module(
        "aim.main", "--mode=evaluate", f"--config={CONFIG}", f"--config.data.dir={data}", f"--config.data.name={name}",
        f"--checkpoint={workdir}", f"--workdir={scores}",
      )  # fmt: skip
  if shares.keys() == SHARES.keys():
    # Where the model card looks for scores.
    scored = [results.read_csv(output / "scores" / name / "generative.csv") for name in flags.FLAGS.score]
    results.write_csv(workdir / "generative.csv", [line for lines in scored for line in lines])
    models = {scored_model.recorded(output / "scores" / name, "evaluate") for name in flags.FLAGS.score}
    assert len(models) == 1 and None not in models, f"scores of several models: {models}"
    scored_model.record(workdir, "evaluate", *models)
    if not (workdir / "uncertainty.json").exists():
      for name in CALIBRATED:
        build_halved(name, source, output)
      programs.run_module(
        "aim.main", "--mode=calibrate", f"--workdir={workdir}", f"--data={','.join(CALIBRATED)}",
        f"--data_dir={output / 'halved'}",
      )  # fmt: skip
    programs.run_module(
      "aim.main", "--mode=export", f"--workdir={workdir}", f"--output={output / 'export'}", f"--card={CARD}",
      "--overwrite",
    )  # fmt: skip


def build(name: str, source: pathlib.Path, inputs: pathlib.Path, data: pathlib.Path) -> None:
  """Builds one set with its split, unless that was done."""
  # One person cannot be split: all of mhealth1 is trained on.
  split = ["--split=1,0,0"] if name == "mhealth1" else [f"--folds={FOLDS}", "--fold=0"]
  path = input_of(name, source, inputs)
  programs.run_module(
    "data_pipelines.build", "--source=npz", f"--input={path}", f"--data_dir={data}", f"--name={name}", *split
  )


def with_simulated(shares: Mapping[str, float], simulated: float, data: pathlib.Path) -> dict[str, float]:
  """The shares of days if a share of all is of simulated people, whose days are built unless that was done."""
  programs.run_module(
    "data_pipelines.build", "--source=simulate", f"--participants={SIMULATED_PEOPLE}", f"--days={SIMULATED_DAYS}",
    f"--data_dir={data}", "--name=simulated", "--split=1,0,0",
  )  # fmt: skip
  total = sum(shares.values())
  return {name: share / total * (1 - simulated) for name, share in shares.items()} | {"simulated": simulated}


def build_halved(name: str, source: pathlib.Path, output: pathlib.Path) -> None:
  """Builds a set with its held-out people in two halves: tune for the intervals, eval for their coverage."""
  inputs = output / "inputs"
  stored = splits.load(output / "data" / "day_windows" / name / "1.0.0" / "splits.json")
  held_out = sorted(stored["eval"])
  split_file = inputs / f"{name}_splits.json"
  split_file.write_text(json.dumps({"pretrain": stored["pretrain"], "tune": held_out[::2], "eval": held_out[1::2]}))
  programs.run_module(
    "data_pipelines.build", "--source=npz", f"--input={input_of(name, source, inputs)}",
    f"--data_dir={output / 'halved'}", f"--name={name}", f"--split_file={split_file}",
  )  # fmt: skip


def input_of(name: str, source: pathlib.Path, inputs: pathlib.Path) -> pathlib.Path:
  """The npz file of a set: its own, or one made of it below `inputs`."""
  path = source / f"{name}.npz"
  if name in ("fitabase", "mhealth1"):
    path = inputs / path.name
    inputs.mkdir(parents=True, exist_ok=True)
    content = dict(np.load(source / path.name))
    if name == "fitabase":
      content = joined(content, dict(np.load(source / "fitabase_hr.npz")))
    else:
      content = without_channel(content, "sleep")
    np.savez_compressed(path, **content)
  return path


def without_channel(content: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """A study without one channel: mhealth1 codes sleep by stages, where the others say asleep or not."""
  keep = content["channels"] != name
  return content | {"values": content["values"][..., keep], "channels": content["channels"][keep]}


def joined(all_people: dict[str, np.ndarray], with_heart_rate: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """One study from two files: the days of both, with the heart rate of the second where it has that day.

  The people of the second file are among those of the first, so the two must not be split apart.
  """
  channels = list(with_heart_rate["channels"])
  steps = with_heart_rate["values"].shape[1]
  days: dict[tuple[str, str], np.ndarray] = {}
  for content in (all_people, with_heart_rate):
    names = list(content["channels"])
    for person, date, values in zip(content["participant"], content["date"], content["values"], strict=True):
      day = days.setdefault((str(person), str(date)), np.full((steps, len(channels)), np.nan, np.float32))
      for k, channel in enumerate(names):
        column = day[:, channels.index(channel)]
        column[np.isnan(column)] = values[:, k][np.isnan(column)]
  keys = sorted(days)
  first = {person: date for person, date in reversed(keys)}
  number = lambda person, date: (datetime.date.fromisoformat(date) - datetime.date.fromisoformat(first[person])).days
  return {
    "values": np.stack([days[key] for key in keys]),
    "channels": np.array(channels),
    "participant": np.array([person for person, _ in keys]),
    "date": np.array([date for _, date in keys]),
    "day": np.array([number(*key) for key in keys]),
    "minutes_per_step": all_people["minutes_per_step"],
    "labels": all_people["labels"],
  }


if __name__ == "__main__":
  flags.DEFINE_string("input", None, "Folder of the npz files.", required=True)
  flags.DEFINE_string("output", None, "Folder for all that is made.", required=True)
  flags.DEFINE_list("without", [], "Sets to leave out of the training.")
  flags.DEFINE_float("simulated", 0.0, "Share of days that are simulated.", lower_bound=0, upper_bound=0.9)
  flags.DEFINE_list("score", ["t1d_uom", "mss", "fitabase", "nhanes"], "Sets to score on their held-out people.")
  programs.run_main(main)
