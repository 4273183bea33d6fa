"""--mode=robustness: what probes of a frozen embedding still predict when a sensor or a part of the day is removed.

The probes are fitted once, on whole days of the training people, and never again (LSM-2, section on robustness).
A setting leaves out the rows that lose everything, before and after alike. The days alone decide which rows those are,
so every model is scored on the same rows.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import ml_collections
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from aim.evaluation import results
from aim.evaluation.difference import bounds
from aim.evaluation.metrics import METRICS, agreement, lower_is_better
from aim.evaluation.probing import robustness_figure
from aim.evaluation.probing.label_tasks import LabelTask, usable_tasks
from aim.evaluation.probing.leak_checks import check_held_out
from aim.evaluation.probing.learners import FittedProbe
from aim.evaluation.probing.probe_inputs import EMBEDDING, read_inputs
from aim.evaluation.probing.run import fit_probes
from aim.evaluation.probing.sensor_dropout import Removal, removals
from aim.evaluation.results import Result
from aim.inference.pretrained import Pretrained
from data_pipelines.dataset import Dataset
from data_pipelines.text_files import counted

MEAN = "the mean of all settings"


@dataclasses.dataclass(frozen=True)
class SettingPredictions:
  """Predictions of a task's rows, on whole days and in each setting.

  Attributes:
    participant: the person of each row, [n].
    truth: [n].
    intact: predictions on whole days, [n, k].
    reduced: {setting: predictions [n, k]}.
    answerable: {setting: bool [n]}, the rows that have something left.
  """

  participant: Shaped[np.ndarray, " n"]
  truth: Float[np.ndarray, " n"]
  intact: Float[np.ndarray, "n k"]
  reduced: dict[str, Float[np.ndarray, "n k"]]
  answerable: dict[str, Bool[np.ndarray, " n"]]


def run_robustness(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path
) -> list[Result]:
  """Scores every task of config.probe in every setting; writes results.csv and robustness.png, prints a table.

  Args:
    config: the whole config; config.probe and config.robustness are read.

  Raises:
    UserError (one line): an unknown task, or people or days of the training splits among those to be scored.
  """
  check_held_out(model, dataset)
  tasks, left_out = usable_tasks(config.probe, dataset)
  for line in left_out:
    print(f"left out: {line}")
  probes = fit_probes(config.probe, model, dataset)
  settings = removals(dataset.schema, config.robustness.sensors)
  predicted = predict_settings(config.probe, model, dataset, tasks, probes, settings)
  scores: list[Result] = []
  for task in tasks:
    if task.name in predicted:
      about = (dataset.name, model.name, int(model.config.seed))
      scores += score_settings(task, predicted[task.name], *about, config.robustness.bootstrap, config.robustness.seed)
  results.write_csv(output / "results.csv", scores)
  robustness_figure.draw(scores, output / "robustness.png")
  print(
    f"\n{dataset.name}: {counted(len(dataset.people('eval')), 'person')} never seen in training; "
    "drop of the score [95 %]\n"
  )
  print("\n".join(verdicts(scores, predicted)))
  print(f"\n{output / 'results.csv'}\n{output / 'robustness.png'}")
  return scores


def predict_settings(
  config: ml_collections.ConfigDict,
  model: Pretrained,
  dataset: Dataset,
  tasks: Sequence[LabelTask],
  probes: Mapping[str, FittedProbe],
  settings: Sequence[Removal],
) -> dict[str, SettingPredictions]:
  """What the probes predict for the held-out people, by task name.

  Args:
    config: config.probe.
    probes: by task name.
  """
  read = functools.partial(read_inputs, config, model, dataset, "eval", tasks, baselines=False)
  predicted = {
    name: SettingPredictions(rows.participant, rows.truth, probes[name].predict(rows.inputs[EMBEDDING]), {}, {})
    for name, rows in read().items()
  }
  for i, setting in enumerate(settings):
    print(f"setting {i + 1} of {len(settings)}: without {setting.name}")
    for name, rows in read(change=setting).items():
      # A lost channel is unknown to the probe, which takes its training mean; a row with nothing left has no answer.
      embedding = rows.inputs[EMBEDDING]
      predicted[name].reduced[setting.name] = probes[name].predict(embedding)
      predicted[name].answerable[setting.name] = ~np.isnan(embedding).all(axis=1)
  return predicted


def score_settings(
  task: LabelTask,
  predicted: SettingPredictions,
  dataset: str,
  model: str,
  model_seed: int,
  n_bootstrap: int,
  seed: int,
) -> list[Result]:
  """The task's metrics on whole days and in each setting, and the drops: absolute, and in % of the whole-day score.

  A drop says how much worse the setting is: by how much a score falls or an error grows, on the same rows. Its
  interval, and that of the mean over the settings, is paired.

  Args:
    dataset, model: names for the results.
    model_seed: seed of the model's training.
    n_bootstrap, seed: bootstrap draws over people, and their seed.
  """
  names = METRICS[task.kind]
  worse = np.array([1.0 if lower_is_better(name) else -1.0 for name in names])
  settings = [name for name in predicted.reduced if predicted.answerable[name].any()]
  undefined = np.full(len(names), np.nan)

  def statistic(rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " k"]:
    metrics = lambda outputs, rows: agreement(task.kind, predicted.truth[rows], outputs[rows])
    reduced: list[np.ndarray] = []
    drops: list[np.ndarray] = []
    percents: list[np.ndarray] = []
    for name in settings:
      left = rows[predicted.answerable[name][rows]]
      if not left.size:
        for values in (reduced, drops, percents):
          values.append(undefined)
        continue
      before, after = metrics(predicted.intact, left), metrics(predicted.reduced[name], left)
      reduced.append(after)
      drops.append(worse * (after - before))
      percents.append(100 * drops[-1] / np.where(before == 0, np.nan, np.abs(before)))
    means = [np.mean(drops, axis=0), np.mean(percents, axis=0)]
    return np.concatenate([metrics(predicted.intact, rows), *reduced, *drops, *percents, *means])

  value, low, high = results.bootstrap(statistic, predicted.participant, n_bootstrap, seed)
  labels = [(task.name, name) for name in names]
  for suffix in ("", " drop", " drop %"):
    labels += [(f"{task.name} without {setting}", f"{name}{suffix}") for setting in settings for name in names]
  labels += [(f"{task.name} without {MEAN}", f"{name}{suffix}") for suffix in (" drop", " drop %") for name in names]
  people = len(set(predicted.participant.tolist()))
  return [
    Result(
      *(dataset, label, task.level, model, metric, float(number), float(lower), float(upper), people, model_seed),
      compared_with=results.WHOLE_DAYS if " drop" in metric else "",
    )
    for (label, metric), number, lower, upper in zip(labels, value, low, high, strict=True)
  ]


def verdicts(scores: Sequence[Result], predicted: Mapping[str, SettingPredictions]) -> Iterator[str]:
  """One line per task and setting: the drop of the task's headline metric, compared with whole days."""
  by_line = {(result.task, result.metric): result for result in scores}
  for name, of_task in predicted.items():
    metric = robustness_figure.headline(scores, name)
    whole = by_line[name, metric]
    interval = bounds(whole.ci_low, whole.ci_high, "{:.3f}".format)
    yield f"{name}: {metric} {whole.value:.3f}{interval} on whole days"
    for setting in (*of_task.reduced, MEAN):
      key = f"{name} without {setting}"
      if (key, f"{metric} drop") not in by_line:
        yield f"  without {setting:<24} no row has anything left"
        continue
      drop, percent = by_line[key, f"{metric} drop"], by_line[key, f"{metric} drop %"]
      verdict = drop.difference.verdict if drop.difference else "not defined"
      lost = int((~of_task.answerable[setting]).sum()) if setting in of_task.answerable else 0
      left_out = f"; left out because they lose everything: {counted(lost, 'row')}" if lost else ""
      yield f"  without {setting:<24} {verdict}, {percent.value:+.1f} %{left_out}"
