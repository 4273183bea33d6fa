"""The recipe of the shipped weights, changed in one thing at a time, and scored on people that it never saw.

  python -m benchmarks.recipes --input=../shared/data --output=runs/recipes --set=mss [--recipes=shipped,wider]
      [--config.total_steps=1600 ...]

Each recipe trains on the pretrain people of all sets of benchmarks.weights but one, and is scored in gaps of all
channels on everyone of the set that is left out, and on the held-out people of the others. It writes, below
--output/SET, recipes.csv: the differences of each recipe's error with that of the first one, as a mean over the
channels and by channel, with intervals over people; and mse.csv: the errors themselves, beside the baselines'. Decide
by one set, and report on another. A repeated command goes on where it stopped.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from absl import flags

from aim.common import config_files
from aim.evaluation import results
from aim.evaluation.generative import score_files
from aim.evaluation.generative.run import evaluate
from aim.evaluation.generative.scores import Scores
from aim.evaluation.results import Result
from aim.inference import loading
from benchmarks import left_out, programs, weights
from data_pipelines.dataset import Dataset

SHIPPED = "shipped"
OF_DAYS = "normalised by days"  # the shipped recipe, with Pretrained.normalised_by_days (decision 104)
# Flags of the config of each recipe; shares of days and the simulated set are not of the config alone.
RECIPES: dict[str, tuple[str, ...]] = {
  SHIPPED: (),
  "another seed": ("--config.seed=1",),  # what chance does
  "a quarter simulated": (),
  "shares by days": (),
  "places of the schema": ("--config.model.places=schema",),
  "no masks of sensors": ("--config.masking.sensor.weight=0.0",),
  "half masks of sensors": ("--config.masking.sensor.weight=0.75",),
  "wider": (
    *("--config.model.encoder.width=192", "--config.model.encoder.mlp=768", "--config.model.encoder.heads=6"),
    *("--config.model.decoder.width=96", "--config.model.decoder.mlp=384"),
  ),
  "longer": ("--config.total_steps=4000",),
  OF_DAYS: (),
}
SIMULATED_SHARE = 0.25
SCORED = ("t1d_uom", "mss", "fitabase", "nhanes")  # those with several held-out people
PEOPLE = 4  # of the left set that are "trained on" in the split: their means are the baselines of the other half


def main(argv: Sequence[str]) -> None:
  """argv[1:] are overrides of the config of every recipe."""
  chosen = flags.FLAGS
  left, source, output = chosen.set, pathlib.Path(chosen.input), pathlib.Path(chosen.output) / chosen.set
  unknown = sorted(set(chosen.recipes) - set(RECIPES))
  assert not unknown, f"--recipes={','.join(unknown)}, expected some of {', '.join(RECIPES)}"
  data = left_out.build(left, source, output, [PEOPLE])
  for name in weights.SHARES:
    if name != left:
      weights.build(name, source, output / "inputs", data)
  halves = (f"{left}_{PEOPLE}", f"{left}_other_half")
  files: dict[str, dict[str, list[pathlib.Path]]] = {}  # by set and recipe
  for recipe in chosen.recipes:
    scores = output / recipe.replace(" ", "_") / "scores"
    if recipe == OF_DAYS:
      train(SHIPPED, left, data, output / SHIPPED, argv[1:])
      files.setdefault(left, {})[recipe] = [
        evaluate_normalised(scores / part, data, part, output / SHIPPED / "run") for part in halves
      ]
    else:
      train(recipe, left, data, scores.parent, argv[1:])
      checkpoint = [f"--checkpoint={scores.parent / 'run'}"]
      for name in SCORED:
        parts = halves if name == left else (name,)
        files.setdefault(name, {})[recipe] = [
          left_out.evaluate(scores / part, data, f"--config.data.name={part}", checkpoint) for part in parts
        ]
    results.write_csv(output / "recipes.csv", list(differences(files)))
    results.write_csv(output / "mse.csv", list(errors(files)))


def train(recipe: str, left: str, data: pathlib.Path, workdir: pathlib.Path, overrides: Sequence[str]) -> None:
  """Trains one recipe without the set `left`, unless that was done."""
  shares = {name: share for name, share in weights.SHARES.items() if name != left}
  if recipe == "shares by days":
    shares = {name: float(Dataset.open(str(data), name).num_days("pretrain")) for name in shares}
  if recipe == "a quarter simulated":
    shares = weights.with_simulated(shares, SIMULATED_SHARE, data)
  mix = f"--config.data.mix={tuple(shares.items())!r}"
  programs.run_module(
    "aim.main", f"--config={weights.CONFIG}", f"--config.data.dir={data}", mix, "--config.total_steps=1600",
    "--config.evaluate_every=0", *overrides, *RECIPES[recipe], f"--workdir={workdir / 'run'}",
  )  # fmt: skip


def evaluate_normalised(workdir: pathlib.Path, data: pathlib.Path, name: str, run: pathlib.Path) -> pathlib.Path:
  """As left_out.evaluate, of the model normalised by the days of the set's people who are not scored."""
  people = workdir / "evaluate" / "people.csv"
  if not people.exists():
    model, dataset = loading.load_for(run, Dataset.open(str(data), name))
    days = dataset.days("pretrain")
    config = config_files.resolve(weights.CONFIG, [f"--config.evaluate.days={flags.FLAGS.days}", *left_out.SCORED])
    workdir.mkdir(parents=True, exist_ok=True)
    model = model.normalised_by_days(np.stack([days[i]["values"] for i in range(len(days))]))
    evaluate(config.evaluate, model, dataset, workdir)
  return people


def differences(files: dict[str, dict[str, list[pathlib.Path]]]) -> Iterator[Result]:
  """Every recipe against the first, on every set."""
  for name, of_recipes in files.items():
    first, *others = of_recipes
    for recipe in others:
      yield from left_out.compared(name, together(of_recipes, [recipe, first]), recipe, [first])


def errors(files: dict[str, dict[str, list[pathlib.Path]]]) -> Iterator[Result]:
  """The errors of all recipes and of the baselines, on every set."""
  for name, of_recipes in files.items():
    yield from left_out.error_lines(name, together(of_recipes, list(of_recipes)))


def together(of_recipes: dict[str, list[pathlib.Path]], recipes: Sequence[str]) -> Scores:
  """The scores of some recipes and of the baselines: from the files of the first, or of OF_DAYS.

  Baselines read days that are clipped as the model's are, so those of OF_DAYS see values that the others do not.
  """
  parts = {recipe: [score_files.load_people(part) for part in of_recipes[recipe]] for recipe in of_recipes}
  first = parts[OF_DAYS if OF_DAYS in of_recipes else next(iter(of_recipes))]
  sources = [(recipe, scores, scores.methods[0]) for recipe in recipes for scores in parts[recipe]]
  sources += [(method, scores, method) for method in left_out.BASELINES for scores in first]
  return left_out.merged(sources, first[0])


if __name__ == "__main__":
  flags.DEFINE_string("input", None, "Folder of the npz files.", required=True)
  flags.DEFINE_string("output", None, "Folder for all that is made.", required=True)
  flags.DEFINE_enum("set", None, sorted(SCORED), "The set that is left out.", required=True)
  flags.DEFINE_list("recipes", list(RECIPES), "The recipes; the others are compared with the first.")
  flags.DEFINE_integer("days", 150, "Days to score at most; 0: all.")
  programs.run_main(main)
