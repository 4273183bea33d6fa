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

from aim.evaluation import predictions, results
from aim.evaluation.difference import bounds
from aim.evaluation.metrics import METRICS, agreement, lower_is_better
from aim.evaluation.predictions import Predictions
from aim.evaluation.probing import robustness_figure
from aim.evaluation.probing.label_tasks import LabelTask, usable_tasks
from aim.evaluation.probing.leak_checks import check_held_out
from aim.evaluation.probing.learners import FittedProbe
from aim.evaluation.probing.probe_inputs import EMBEDDING, ProbeInputs, read_inputs
from aim.evaluation.probing.run import fit_probes, probed_model
from aim.evaluation.probing.sensor_dropout import Removal, removals
from aim.evaluation.results import Result
from aim.inference.pretrained import Pretrained
from data_pipelines.dataset import Dataset
from data_pipelines.text_files import counted

MEAN = "the mean of all settings"
WITHOUT = " without "


@dataclasses.dataclass(frozen=True)
class SettingPredictions:
  """Predictions of a task's rows, on whole days and in each setting.

  Attributes:
    participant: the person of each row, [n].
    truth: [n].
    intact: predictions on whole days, [n, k].
    reduced: {setting: predictions [n, k]}.
    answerable: {setting: bool [n]}, the rows that have something left.
    fold: which of several separately fitted models predicted the row, [n]; None where one model predicted all.
  """

  participant: Shaped[np.ndarray, " n"]
  truth: Float[np.ndarray, " n"]
  intact: Float[np.ndarray, "n k"]
  reduced: dict[str, Float[np.ndarray, "n k"]]
  answerable: dict[str, Bool[np.ndarray, " n"]]
  fold: Int[np.ndarray, " n"] | None = None


def run_robustness(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path
) -> list[Result]:
  """Scores every task of config.probe in every setting; writes files and prints a table.

  The files are results.csv, predictions.csv, from which --mode=compare pairs models, and robustness.png.

  Args:
    config: the whole config; config.probe and config.robustness are read.

  Raises:
    UserError (one line): an unknown task, or people or days of the training splits among those to be scored.
  """
  check_held_out(model, dataset)
  model = probed_model(config.probe, model)
  tasks, left_out = usable_tasks(config.probe, dataset)
  for line in left_out:
    print(f"left out: {line}")
  probes = fit_probes(config.probe, model, dataset)
  settings = removals(dataset.schema, config.robustness.sensors)
  predicted, rows = predict_settings(config.probe, model, dataset, tasks, probes, settings)
  scores: list[Result] = []
  predictions_of_all: list[Predictions] = []
  for task in tasks:
    if task.name in predicted:
      about = (dataset.name, model.name, int(model.config.seed))
      scores += score_settings(task, predicted[task.name], *about, config.robustness.bootstrap, config.robustness.seed)
      of_task = _as_predictions(task, predicted[task.name], rows[task.name], *about)
      predictions_of_all += of_task
  predictions.write_csv(output / "predictions.csv", predictions_of_all)
  seen = model.seen_people(dataset, dataset.people("eval"))
  scores = results.marked_seen(scores, model.name, seen.field)
  results.write_csv(output / "results.csv", scores)
  robustness_figure.draw(scores, output / "robustness.png")
  print(f"\n{dataset.name}: {seen.text}; drop of the score [95 %]\n")
  print("\n".join(verdicts(scores, predicted)))
  print(f"\n{output / 'results.csv'}\n{output / 'predictions.csv'}\n{output / 'robustness.png'}")
  return scores


def predict_settings(
  config: ml_collections.ConfigDict,
  model: Pretrained,
  dataset: Dataset,
  tasks: Sequence[LabelTask],
  probes: Mapping[str, FittedProbe],
  settings: Sequence[Removal],
) -> tuple[dict[str, SettingPredictions], dict[str, ProbeInputs]]:
  """Predictions of the probes for the held-out people, and the rows that these are for, both by task name.

  Args:
    config: config.probe.
    probes: by task name.
  """
  read = functools.partial(read_inputs, config, model, dataset, "eval", tasks, baselines=False)
  whole = read()
  predicted = {
    name: SettingPredictions(rows.participant, rows.truth, probes[name].predict(rows.inputs[EMBEDDING]), {}, {})
    for name, rows in whole.items()
  }
  for i, setting in enumerate(settings):
    print(f"setting {i + 1} of {len(settings)}: without {setting.name}")
    for name, rows in read(change=setting).items():
      # A lost channel is unknown to the probe, which takes its training mean; a row with nothing left has no answer.
      embedding = rows.inputs[EMBEDDING]
      predicted[name].reduced[setting.name] = probes[name].predict(embedding)
      predicted[name].answerable[setting.name] = ~np.isnan(embedding).all(axis=1)
  return predicted, whole


def _as_predictions(
  task: LabelTask, predicted: SettingPredictions, rows: ProbeInputs, dataset: str, model: str, model_seed: int
) -> Iterator[Predictions]:
  """Yields the predictions on whole days, then those of each setting for the rows that have something left."""
  everything = np.ones(len(rows.truth), bool)
  settings = [("", predicted.intact, everything)]
  settings += [(f"{WITHOUT}{s}", of_s, predicted.answerable[s]) for s, of_s in predicted.reduced.items()]
  for suffix, outputs, kept in settings:
    if kept.any():
      head = (dataset, f"{task.name}{suffix}", task.level, task.kind, task.classes, model, model_seed)
      columns = (rows.participant, rows.day, rows.date, rows.start, rows.end, rows.truth, outputs)
      person, day, date, start, end, truth, kept_outputs = (array[kept] for array in columns)
      yield Predictions(*head, person, day, date, start, end, truth, kept_outputs)


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
  about = (task.name, task.kind, dataset, task.level, model_seed)
  return _score_models({model: predicted}, *about, n_bootstrap, seed, against=())


def score_models(predicted: Sequence[Predictions], n_bootstrap: int, seed: int, against: Sequence[str]) -> list[Result]:
  """The scores and drops of several models from their predictions.csv, and what each differs from those in `against`.

  Differences are paired over people: of the score in each setting and of its drop, and of their means over all
  settings. With several folds, what ranks answers does so within a fold (`metrics.agreement`).

  Args:
    predicted: of any tasks, models and settings, folds joined (`predictions.read_folds`).
    n_bootstrap, seed: bootstrap draws over people, and their seed.
    against: names of the models to compare the others with.

  Raises:
    ResultsError: two models predict different rows.
  """
  groups: dict[tuple[str, str, int], dict[str, dict[str, Predictions]]] = {}
  for p in predicted:
    groups.setdefault((p.dataset, p.level, p.seed), {}).setdefault(p.task, {})[p.model] = p
  scores: list[Result] = []
  for (dataset, level, model_seed), by_task in groups.items():
    setting_of = {name: name.rpartition(WITHOUT) for name in by_task if name.rpartition(WITHOUT)[0] in by_task}
    for name, intact in by_task.items():
      if name in setting_of:
        continue
      reduced = {setting: by_task[other] for other, (task, _, setting) in setting_of.items() if task == name}
      if any(of_setting.keys() != intact.keys() for of_setting in reduced.values()):
        raise results.ResultsError(f"{name}: not every model was scored in every setting")
      models = {
        model: _of_predictions(p, {setting: of_setting[model] for setting, of_setting in reduced.items()})
        for model, p in intact.items()
      }
      _check_same_rows(name, models)
      kind = next(iter(intact.values())).kind
      scores += _score_models(models, name, kind, dataset, level, model_seed, n_bootstrap, seed, against)
  return scores


def _of_predictions(intact: Predictions, reduced: Mapping[str, Predictions]) -> SettingPredictions:
  """A model's predictions of a task and its settings, the rows without an answer NaN."""
  key = lambda p: list(zip(p.participant.tolist(), p.day.tolist(), p.start.tolist(), strict=True))
  row = {place: i for i, place in enumerate(key(intact))}
  outputs, answerable = {}, {}
  for setting, p in reduced.items():
    rows = np.array([row[place] for place in key(p)])
    order = [p.classes.index(name) for name in intact.classes] or [0]
    outputs[setting] = np.full(intact.predicted.shape, np.nan)
    outputs[setting][rows] = p.predicted[:, order]
    answerable[setting] = np.isin(np.arange(len(intact.truth)), rows)
  return SettingPredictions(intact.participant, intact.truth, intact.predicted, outputs, answerable, intact.fold)


def _check_same_rows(task: str, models: Mapping[str, SettingPredictions]) -> None:
  first, *others = models.items()
  for model, p in others:
    same = np.array_equal(p.participant, first[1].participant) and list(p.reduced) == list(first[1].reduced)
    if not same or any(not np.array_equal(p.answerable[s], first[1].answerable[s]) for s in p.reduced):
      raise results.ResultsError(f"{task}: {first[0]} and {model} predict different rows or settings")


def _score_models(
  models: Mapping[str, SettingPredictions],
  task: str,
  kind: str,
  dataset: str,
  level: str,
  model_seed: int,
  n_bootstrap: int,
  seed: int,
  against: Sequence[str],
) -> list[Result]:
  names, first = METRICS[kind], next(iter(models.values()))
  worse = np.array([1.0 if lower_is_better(name) else -1.0 for name in names])
  settings = [name for name in first.reduced if first.answerable[name].any()]
  pairs = [(a, b) for a in models for b in models if a not in against and b in against]

  def of_model(p: SettingPredictions, rows: Int[np.ndarray, " rows"]) -> tuple[np.ndarray, ...]:
    """The scores on whole days [m] and in each setting [s, m], the drops, and the drops in %."""
    fold = lambda rows: None if p.fold is None else p.fold[rows]
    metrics = lambda outputs, rows: agreement(kind, p.truth[rows], outputs[rows], fold(rows))
    before, after = np.full((2, len(settings), len(names)), np.nan)
    for i, name in enumerate(settings):
      left = rows[p.answerable[name][rows]]
      if left.size:
        before[i], after[i] = metrics(p.intact, left), metrics(p.reduced[name], left)
    drops = worse * (after - before)
    return metrics(p.intact, rows), after, drops, 100 * drops / np.where(before == 0, np.nan, np.abs(before))

  def statistic(rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " k"]:
    of_models = {name: of_model(p, rows) for name, p in models.items()}
    numbers: list[np.ndarray] = []
    for whole, after, drops, percents in of_models.values():
      numbers += [whole, after, drops, percents, drops.mean(axis=0), percents.mean(axis=0)]
    for a, b in pairs:
      whole, after, drops, _ = (x - y for x, y in zip(of_models[a], of_models[b], strict=True))
      numbers += [whole, after, drops, after.mean(axis=0), drops.mean(axis=0)]
    return np.concatenate([array.ravel() for array in numbers])

  whole, each, mean = [task], [f"{task}{WITHOUT}{setting}" for setting in settings], [f"{task}{WITHOUT}{MEAN}"]
  plain = [(whole, ""), (each, ""), (each, " drop"), (each, " drop %"), (mean, " drop"), (mean, " drop %")]
  paired = [(whole, ""), (each, ""), (each, " drop"), (mean, ""), (mean, " drop")]
  labels = [
    (label, model, f"{name}{suffix}", results.WHOLE_DAYS if " drop" in suffix else "")
    for model in models for of_labels, suffix in plain for label in of_labels for name in names
  ]  # fmt: skip
  labels += [
    (label, a, f"{name}{suffix} vs {b}", b)
    for a, b in pairs for of_labels, suffix in paired for label in of_labels for name in names
  ]  # fmt: skip
  columns = results.bootstrap(statistic, first.participant, n_bootstrap, seed)
  people = len(set(first.participant.tolist()))
  n_folds = None if first.fold is None else len(np.unique(first.fold))
  return [
    Result(
      *(dataset, label, level, model, metric, float(number), float(low), float(high), people, model_seed),
      compared_with=compared_with,
      n_folds=n_folds,
    )
    for (label, model, metric, compared_with), number, low, high in zip(labels, *columns, strict=True)
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
