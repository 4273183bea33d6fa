"""--mode=probe: what a frozen embedding knows about a person and their day, compared with what simpler inputs know.

Probes are trained on people of the pretrain and tune splits and scored on people of the eval split only.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np
from jaxtyping import Bool

from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.evaluation import predictions, results
from aim.evaluation.difference import CONSTANT
from aim.evaluation.predictions import Predictions
from aim.evaluation.probing import learners
from aim.evaluation.probing.label_tasks import LabelTask, usable_tasks
from aim.evaluation.probing.leak_checks import check_held_out, check_people_apart
from aim.evaluation.probing.learners import FitData, FittedProbe, Predictor
from aim.evaluation.probing.oracle import strangers
from aim.evaluation.probing.probe_inputs import EMBEDDING, HOURLY, MASK, ORACLE_TRAITS, ProbeInputs, read_inputs
from aim.inference.pretrained import Pretrained
from data_pipelines.dataset import Dataset
from data_pipelines.text_files import file_name


@dataclasses.dataclass(frozen=True)
class TrainingInputs:
  """The rows of the people that probes are trained on.

  Attributes:
    rows: rows of the pretrain and the tune people.
    tune: which of them are of tune people, bool [n].
  """

  rows: ProbeInputs
  tune: Bool[np.ndarray, " n"]

  def of_people(self) -> TrainingInputs:
    """One row per person."""
    people = self.rows.of_people()
    return TrainingInputs(people, np.isin(people.participant, self.rows.participant[self.tune]))

  def fit_data(self, name: str) -> FitData:
    """The inputs of one name, as learners take them."""
    return FitData(self.rows.inputs[name], self.rows.truth, self.rows.participant, self.tune)


def probed_model(config: ml_collections.ConfigDict, model: Pretrained) -> Pretrained:
  """The model whose embeddings config.probe.imputed_patches asks for."""
  return model.without_imputed_patches() if config.imputed_patches == "unseen" else model


def run_probe(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path
) -> list[results.Result]:
  """Fits and scores every task in config.tasks; writes results.csv, predictions.csv and probes/ to `output`.

  Args:
    config: config.probe.
    model: gives the embeddings.
    dataset: gives the labels and the splits.

  Raises:
    UserError (one line): an unknown task, or people or days of the training splits among those to be scored.
  """
  check_held_out(model, dataset)
  model = probed_model(config, model)
  tasks = _tasks(config, dataset)
  training = read_training(config, model, dataset, tasks, config.baselines)
  held_out = read_inputs(config, model, dataset, "eval", tasks, baselines=config.baselines)
  for task in tasks:
    check_people_apart(task.name, training[task.name].rows.participant, held_out[task.name].participant)
  predicted: list[Predictions] = []
  with progress_bar(len(tasks), "fit", "task") as bar:
    for task in tasks:
      path = lambda level, task=task: output / "probes" / f"{file_name(task.name)}_{level}.npz"
      names = (dataset.name, model.name, int(model.config.seed))
      predicted += predict_task(config, task, training[task.name], held_out[task.name], path, *names)
      bar.update()
  seen = model.seen_people(dataset, dataset.people("eval"))
  scores = results.marked_seen(predictions.score(predicted, config.bootstrap, config.seed), model.name, seen.field)
  predictions.write_csv(output / "predictions.csv", predicted)
  results.write_csv(output / "results.csv", scores)
  print(f"\n{dataset.name}: scored on {seen.text}; [95 % over people]\n")
  print(predictions.format_tables(scores) + "\n")
  print("\n".join(predictions.verdicts(scores)))
  print(f"\n{output / 'results.csv'}\n{output / 'predictions.csv'}\n{output / 'probes'}")
  return scores


def fit_probes(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, level: str = "day"
) -> dict[str, FittedProbe]:
  """Fits the probes of all tasks on the model's frozen embeddings.

  Args:
    config: config.probe.
    model: gives the embeddings.
    dataset: its pretrain people train the probes, its tune people choose the regularisation.
    level: "day" fits a label of a person on one row per day, "person" on the mean over a person's days. Tasks about
      windows are fitted on windows either way.

  Returns:
    {task name: FittedProbe}; predict(embeddings float [n, width]) gives values [n, 1] or probabilities [n, classes].
    `read_inputs(config, model, dataset, "eval", tasks)` gives the embeddings and truths to score them on.
  """
  tasks = _tasks(config, dataset)
  training = read_training(config, model, dataset, tasks, baselines=False)
  probes = {}
  for task in tasks:
    by_person = level == "person" and task.level == "day"
    of_task = training[task.name].of_people() if by_person else training[task.name]
    probes[task.name] = learners.fit_linear(config, task, of_task.fit_data(EMBEDDING))
  return probes


def read_training(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, tasks: Sequence[LabelTask], baselines: bool
) -> dict[str, TrainingInputs]:
  """The rows of the pretrain and tune people, by task name; see `read_inputs`."""
  parts = [read_inputs(config, model, dataset, split, tasks, baselines=baselines) for split in ("pretrain", "tune")]
  training = {}
  for task in tasks:
    rows = [part[task.name] for part in parts if task.name in part]
    tune = [np.full(len(part[task.name].truth), i == 1) for i, part in enumerate(parts) if task.name in part]
    training[task.name] = TrainingInputs(ProbeInputs.join(rows), np.concatenate(tune))
  return training


def predict_task(
  config: ml_collections.ConfigDict,
  task: LabelTask,
  training: TrainingInputs,
  held_out: ProbeInputs,
  probe_path: Callable[[str], pathlib.Path],
  dataset: str,
  model: str,
  model_seed: int,
) -> list[Predictions]:
  """Predictions of the model's probe and of all baselines, at every level; saves the model's probes.

  Args:
    config: config.probe.
    probe_path: where to save the model's probe of a level ("day", "person" or "window").
    dataset, model: names for the predictions.
    model_seed: seed of the model's training.
  """
  levels = {task.level: (training, held_out)}
  without_pca = ml_collections.ConfigDict(config.to_dict() | {"pca": 0})  # baselines have few inputs
  if task.level == "day":
    levels["person"] = training.of_people(), held_out.of_people()
  predicted = []
  for level, (of_level, scored) in levels.items():
    head = (dataset, task.name, level, task.kind, task.classes)
    place = (scored.participant, scored.day, scored.date, scored.start, scored.end, scored.truth)
    for name, key, fit in _competitors(model, of_level.rows):
      data = strangers(task) if key == ORACLE_TRAITS else of_level.fit_data(key)
      predictor = fit(config if key == EMBEDDING else without_pca, task, data)
      if isinstance(predictor, FittedProbe) and key == EMBEDDING:
        predictor.save(probe_path(level))
      outputs = predictor.predict(scored.inputs[key])
      predicted.append(Predictions(*head, name, model_seed, *place, outputs))
  return predicted + [p.of_people() for p in predicted if p.level == "day"]


def _tasks(config: ml_collections.ConfigDict, dataset: Dataset) -> list[LabelTask]:
  """The usable tasks; prints a line for each label that is left out."""
  tasks, left_out = usable_tasks(config, dataset)
  for line in left_out:
    print(f"left out: {line}")
  if not tasks:
    raise ConfigError(f"dataset {dataset.name!r} has no label that can be probed")
  return tasks


def _competitors(model_name: str, rows: ProbeInputs) -> list[tuple[str, str, Callable[..., Predictor]]]:
  """(name, inputs, fit) of the model and of every baseline whose inputs are among the rows."""
  competitors: list[tuple[str, str, Callable[..., Predictor]]] = [
    (model_name, EMBEDDING, learners.fit_linear),
    (CONSTANT, EMBEDDING, learners.fit_constant),
    (predictions.MASK_ONLY, MASK, learners.fit_linear),
    (predictions.MASK_FOREST, MASK, learners.fit_forest),
    (predictions.HOURLY, HOURLY, learners.fit_forest),
  ]
  competitors += [(name, name, learners.fit_linear) for name in (*predictions.AGE_SEX, *predictions.ORACLES)]
  return [competitor for competitor in competitors if competitor[1] in rows.inputs]
