"""--mode=robustness: what probes of a frozen embedding still know when a sensor or a part of the day is gone.

The probes are fitted once, on whole days of people of the training splits, and never again (LSM-2, section on
robustness). Rows that lose everything are left out of a setting, before and after alike: which those are is decided by
the days alone, so they are the same for every model.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import ml_collections
import numpy as np
from jaxtyping import Bool, Float, Int

from aim.evaluation import results
from aim.evaluation.metrics import METRICS, agreement, lower_is_better
from aim.evaluation.probing import label_tasks, robustness_figure
from aim.evaluation.probing import run as probing_run
from aim.evaluation.probing.label_tasks import LabelTask
from aim.evaluation.probing.learners import FittedProbe
from aim.evaluation.probing.sensor_dropout import Removal, removals
from aim.evaluation.results import Result
from aim.inference.pretrained import Pretrained
from data_pipelines.dataset import Dataset

MEAN = "the mean of all settings"


@dataclasses.dataclass(frozen=True)
class Answers:
  """Predictions of a task's rows, whole and in each setting.

  Attributes:
    participant: [n].
    truth: [n].
    intact: [n, k].
    hurt: {setting: [n, k]}.
    kept: {setting: bool [n]}, rows that have something left.
  """

  participant: np.ndarray
  truth: Float[np.ndarray, " n"]
  intact: Float[np.ndarray, "n k"]
  hurt: Mapping[str, Float[np.ndarray, "n k"]]
  kept: Mapping[str, Bool[np.ndarray, " n"]]


def robustness(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path
) -> list[Result]:
  """Scores every task of config.probe in every setting; writes results.csv and robustness.png, prints a table."""
  probing_run.check(model, dataset)
  asked, left_out = label_tasks.tasks(config.probe, dataset)
  for line in left_out:
    print(f"left out: {line}")
  probes = probing_run.fit_probes(config.probe, model, dataset)
  settings = removals(dataset.schema, config.robustness.sensors)
  answers = ask(config, model, dataset, asked, probes, settings)
  found: list[Result] = []
  for task in asked:
    if task.name in answers:
      about = (dataset.name, model.name, int(model.config.seed))
      found += score(task, answers[task.name], *about, config.robustness.bootstrap, config.robustness.seed)
  results.write_csv(output / "results.csv", found)
  robustness_figure.chart(found, output / "robustness.png")
  print(f"\n{dataset.name}: {len(dataset.people('eval'))} people never seen in training; drop of the score [95 %]\n")
  print("\n".join(verdicts(found, answers)))
  print(f"\n{output / 'results.csv'}\n{output / 'robustness.png'}")
  return found


def ask(
  config: ml_collections.ConfigDict,
  model: Pretrained,
  dataset: Dataset,
  asked: Sequence[LabelTask],
  probes: Mapping[str, FittedProbe],
  settings: Sequence[Removal],
) -> dict[str, Answers]:
  """What the probes say of the held-out people, by task."""
  embed = functools.partial(probing_run.examples, config.probe, model, dataset, "eval", asked, baselines=False)
  intact = embed()
  hurt = {}
  for i, setting in enumerate(settings):
    print(f"setting {i + 1} of {len(settings)}: without {setting.name}")
    hurt[setting.name] = embed(change=setting)
  found = {}
  for name, rows in intact.items():
    inputs = {setting: examples[name].inputs[probing_run.EMBEDDING] for setting, examples in hurt.items()}
    said = {setting: probes[name].predict(array) for setting, array in inputs.items()}
    # A lost channel is unknown to the probe, which takes its training mean; a day with nothing left has no answer.
    kept = {setting: ~np.isnan(array).all(axis=1) for setting, array in inputs.items()}
    found[name] = Answers(
      rows.participant, rows.truth, probes[name].predict(rows.inputs[probing_run.EMBEDDING]), said, kept
    )
  return found


def score(
  task: LabelTask, answers: Answers, dataset: str, model: str, model_seed: int, n_bootstrap: int, seed: int
) -> list[Result]:
  """Each of the task's metrics whole, in each setting and its drop there, absolute and in % of the whole days' score.

  A drop is how much worse: a score that falls, an error that grows. It compares the same rows; its interval and that
  of the mean over the settings are paired.
  """
  names = METRICS[task.kind]
  worse = np.array([1.0 if lower_is_better(name) else -1.0 for name in names])
  settings = [name for name in answers.hurt if answers.kept[name].any()]

  def statistic(rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " k"]:
    of = lambda said, rows: agreement(task.kind, answers.truth[rows], said[rows])
    hurt, drops, percents = [], [], []
    for name in settings:
      left = rows[answers.kept[name][rows]]
      if not left.size:
        hurt.append(np.full(len(names), np.nan))
        drops.append(hurt[-1])
        percents.append(hurt[-1])
        continue
      before, after = of(answers.intact, left), of(answers.hurt[name], left)
      hurt.append(after)
      drops.append(worse * (after - before))
      percents.append(100 * drops[-1] / np.where(before == 0, np.nan, np.abs(before)))
    means = [np.mean(drops, axis=0), np.mean(percents, axis=0)]
    return np.concatenate([of(answers.intact, rows), *hurt, *drops, *percents, *means])

  value, low, high = results.bootstrap(statistic, answers.participant, n_bootstrap, seed)
  of_setting = [f"{task.name} without {name}" for name in settings]
  labelled = [(task.name, name) for name in names]
  for suffix in ("", " drop", " drop %"):
    labelled += [(label, f"{name}{suffix}") for label in of_setting for name in names]
  labelled += [(f"{task.name} without {MEAN}", f"{name}{suffix}") for suffix in (" drop", " drop %") for name in names]
  people = len(set(answers.participant.tolist()))
  return [
    Result(
      *(dataset, label, task.level, model, metric, float(number), float(lower), float(upper), people, model_seed),
      compared_with=results.WHOLE_DAYS if " drop" in metric else "",
    )
    for (label, metric), number, lower, upper in zip(labelled, value, low, high, strict=True)
  ]


def verdicts(found: Sequence[Result], answers: Mapping[str, Answers]) -> Iterator[str]:
  """One line per task and setting: the drop of the task's first metric, compared with whole days."""
  of = {(result.task, result.metric): result for result in found}
  for name, answer in answers.items():
    metric = robustness_figure.headline(found, name)
    whole = of[name, metric]
    yield f"{name}: {metric} {whole.value:.3f} [{whole.ci_low:.3f}, {whole.ci_high:.3f}] on whole days"
    for setting in (*answer.hurt, MEAN):
      key = f"{name} without {setting}"
      if (key, f"{metric} drop") not in of:
        yield f"  without {setting:<24} no row has anything left"
        continue
      drop, percent = of[key, f"{metric} drop"], of[key, f"{metric} drop %"]
      verdict = drop.difference.verdict if drop.difference else "not defined"
      lost = int((~answer.kept[setting]).sum()) if setting in answer.kept else 0
      left_out = f"; {lost} rows left out, which lose everything" if lost else ""
      yield f"  without {setting:<24} {verdict}, {percent.value:+.1f} %{left_out}"
