"""--mode=finetune: the pretrained encoder trained on few to many labels, compared with training from scratch.

A cell is one training: a model on a task with a share of the labelled people. The share covers the people to train on
and the people whose labels decide when to stop. Predictions are of people of the eval split. Attention reads everything
that was observed: nothing is hidden or dropped.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from jaxtyping import Float

from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.evaluation import predictions, results
from aim.evaluation.difference import CONSTANT
from aim.evaluation.finetuning.cells import FinetuneCell, fingerprint
from aim.evaluation.finetuning.examples import LabelledDays, TargetScaling
from aim.evaluation.finetuning.heads import probe_head
from aim.evaluation.finetuning.label_budget import LabelledPeople
from aim.evaluation.finetuning.learning_curve import draw_learning_curves, verdicts
from aim.evaluation.finetuning.networks import Network, encoder_network, resnet_network
from aim.evaluation.finetuning.trainer import Trainer
from aim.evaluation.predictions import Predictions
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask, usable_tasks
from aim.evaluation.probing.leak_checks import check_held_out
from aim.evaluation.probing.learners import FitData, fit_constant
from aim.inference.pretrained import Pretrained
from aim.model.buffer_sizes import BufferSizes
from data_pipelines.dataset import Dataset
from data_pipelines.text_files import counted

NAMES = {"scratch": "ViT supervised", "resnet": "ResNet supervised"}


def run_finetune(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path
) -> list[results.Result]:
  """Trains and scores every cell; writes results.csv, predictions.csv, learning_curve.png and cells/ to `output`.

  In these files the level is "10 % of labels, day" (or "person", the mean over a person's days, or "window"); the model
  is `model.name`, "ViT supervised", "ResNet supervised" or "constant", which answers the same for everyone; the seed is
  that of the training on labels; and n_labelled_people counts everyone whose labels the training saw, in fitting and in
  early stopping.

  Args:
    config: the whole config: config.finetune, and config.probe for the tasks.
    model: gives the architecture, the scale and, unless trained from scratch, the parameters to start from.
    dataset: gives the labels and the splits.

  Raises:
    UserError (one line): an unusable value, an unknown task, or people who are in both training and eval.
  """
  check_config(config.finetune, model)
  check_held_out(model, dataset)
  key = "config.finetune.tasks" if config.finetune.tasks else "config.probe.tasks"
  tasks, left_out = usable_tasks(_task_config(config), dataset, key)
  for line in left_out:
    print(f"left out: {line}")
  if not tasks:
    raise ConfigError(f"dataset {dataset.name!r} has no label that can be learnt")
  study = Study(config, model, dataset, output)
  jobs = [job for task in tasks for job in study.jobs(task)]
  predicted = _run_jobs(study, jobs)
  if not predicted:
    raise ConfigError("config.finetune.label_percent: no share is large enough for any task")
  predicted += study.constants(jobs)
  ours, *others = study.rivals
  against = [*(study.name(rival) for rival in others), CONSTANT]
  seen = model.seen_people(dataset, dataset.people("eval"))
  scores = predictions.score(predicted, config.finetune.bootstrap, config.probe.seed, against)
  scores = results.marked_seen(scores, study.name("pretrained"), seen.field)
  predictions.write_csv(output / "predictions.csv", predicted)
  results.write_csv(output / "results.csv", scores)
  draw_learning_curves(scores, output / "learning_curve.png")
  print(f"\n{dataset.name}: {seen.text}; [95 % over people]\n")
  print(predictions.format_tables(scores) + "\n")
  print("\n".join(verdicts(scores, study.name(ours))))
  print(f"\n{output / 'results.csv'}\n{output / 'predictions.csv'}\n{output / 'learning_curve.png'}\n{study.folder}")
  return scores


def _task_config(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """config.probe, with the tasks of config.finetune if it names any."""
  probe = config.probe.copy_and_resolve_references()
  probe.tasks = config.finetune.tasks or config.probe.tasks
  return probe


def check_config(config: ml_collections.ConfigDict, model: Pretrained) -> None:
  """Raises ConfigError if config.finetune trains more layers than the encoder has."""
  blocks = model.architecture.encoder.layers
  if config.layers > blocks:
    raise ConfigError(f"config.finetune.layers is {config.layers}, expected -1 to {blocks}, the encoder's blocks")


@dataclasses.dataclass(frozen=True)
class Job:
  """A cell with what is needed to compute it.

  Attributes:
    cell: the training.
    rival: its model: "pretrained", "scratch" or "resnet".
    task: its task.
  """

  cell: FinetuneCell
  rival: str
  task: LabelTask


class Study:
  """Everything that the cells of one command share.

  Attributes:
    rivals: the models that are compared; the first is compared with the others.
    folder: where cells are stored.
  """

  def __init__(self, config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path):
    self.config, self.probe_config = config.finetune, config.probe
    self.model, self.dataset, self.folder = model, dataset, output / "cells"
    first = "resnet" if self.config.network == "resnet" else self.config.init
    self.rivals = tuple(dict.fromkeys((first, *self.config.compare)))
    self.settings = fingerprint(config, model, dataset.request)
    self.tune_people = frozenset(dataset.people("tune"))
    sizes: list[BufferSizes] = []
    look = lambda values: sizes.append(model.encoder_sizes(values))
    self.training = LabelledDays.open(dataset, ("pretrain", "tune"), look)
    self.held_out = LabelledDays.open(dataset, ("eval",), look)
    self.sizes = max(sizes, key=lambda size: size.encoder)
    self._trainers: dict[tuple[str, int], Trainer] = {}

  def name(self, rival: str) -> str:
    """A rival's name in tables."""
    return NAMES.get(rival, self.model.name)

  def jobs(self, task: LabelTask) -> Iterator[Job]:
    """The cells of a task; prints a line for each share of the labels that is too small."""
    labelled = LabelledPeople.divide(self.training.strata(task, self.training.rows(task)), self.tune_people)
    shares = sorted(set(self.config.label_percent))
    for seed, percent in itertools.product(self.config.seeds, shares):
      budget = labelled.budget(percent, seed)
      reason = labelled.too_few(budget)
      if reason:
        print(f"left out: {task.name} at {percent:g} % of the labels (seed {seed}): {reason}")
        continue
      for rival in self.rivals:
        about = (self.name(rival), task.name, float(percent), int(seed))
        yield Job(FinetuneCell(*about, budget.train, budget.tune, self.settings), rival, task)

  def trainer(self, rival: str, outputs: int) -> Trainer:
    """The trainer for a rival with this number of outputs; compiled once, used for every such cell."""
    key = rival, outputs
    if key not in self._trainers:
      rate = self.config.learning_rate if rival == "pretrained" else self.config.scratch_learning_rate
      self._trainers[key] = Trainer(self.network(rival, outputs), self.config, rate)
    return self._trainers[key]

  def network(self, rival: str, outputs: int) -> Network:
    """A rival's network."""
    if rival == "resnet":
      return resnet_network(self.model, outputs, self.config.resnet_impute)
    if rival == "scratch":
      return encoder_network(self.model, outputs, self.sizes, pretrained=False)
    return encoder_network(
      self.model, outputs, self.sizes, layers=self.config.layers, layer_decay=self.config.layer_decay
    )

  def run(self, job: Job, progress: Callable[[int], Any]) -> None:
    """Trains, predicts the held-out people and stores the cell.

    Args:
      progress: called with the number of steps made.
    """
    started = time.perf_counter()
    task, cell, days = job.task, job.cell, self.training
    rows = days.rows(task)
    train_rows = days.of_people(rows, cell.people)
    scaling = TargetScaling.of_rows(task, train_rows.truth, self.config.class_balanced)
    train = scaling.examples(task, days, train_rows)
    tune = scaling.examples(task, days, days.of_people(rows, cell.tune_people))
    trainer = self.trainer(job.rival, max(len(task.classes), 1))
    head = None
    if job.rival == "pretrained" and self.config.head == "probe":
      inputs = trainer.pooled(trainer.network.init(jax.random.key(cell.seed)), train)
      settings = (self.probe_config.strengths, self.probe_config.pca, self.config.class_balanced)
      head = probe_head(task, scaling, train_rows, days.participant, inputs, *settings)
    fitted = trainer.fit(train, tune, cell.seed, progress, head)
    held_out_rows = self.held_out.rows(task)
    outputs = trainer.predict(fitted.params, scaling.examples(task, self.held_out, held_out_rows))
    about = {
      "days": len(np.unique(train_rows.day)),
      "best_step": fitted.best_step,
      "steps": fitted.steps,
      "curve": fitted.curve,
      "seconds": round(time.perf_counter() - started, 1),
    }
    predicted = scaling.predictions(task, held_out_rows, outputs)
    cell.write(self.folder, self.predictions(task, cell, held_out_rows, predicted), about)

  def constants(self, jobs: Iterable[Job]) -> list[Predictions]:
    """Predictions from the labels alone, beside every model: fitted as by --mode=probe, on all labels a cell saw."""
    predicted = []
    for job in {(job.task.name, job.cell.percent, job.cell.seed): job for job in jobs}.values():
      seen = self.training.of_people(self.training.rows(job.task), {*job.cell.people, *job.cell.tune_people})
      people, rows = self.training.participant[seen.day], self.held_out.rows(job.task)
      no_inputs = lambda n: np.empty((n, 0))
      data = FitData(no_inputs(len(people)), seen.truth, people, tune=np.zeros(len(people), bool))
      outputs = fit_constant(self.probe_config, job.task, data).predict(no_inputs(len(rows.truth)))
      predicted += self.predictions(job.task, dataclasses.replace(job.cell, model=CONSTANT), rows, outputs)
    return predicted

  def predictions(
    self, task: LabelTask, cell: FinetuneCell, rows: LabelRows, predicted: Float[np.ndarray, "r k"]
  ) -> list[Predictions]:
    """Predictions of days and of people, or of windows."""
    days = self.held_out
    share = f"{cell.percent:g} % of labels"
    head = (self.dataset.name, task.name, f"{share}, {task.level}", task.kind, task.classes, cell.model)
    place = (days.participant[rows.day], days.day[rows.day], days.date[rows.day], rows.start, rows.end)
    of_rows = Predictions(*head, cell.seed, *place, rows.truth, predicted, cell.n_labelled_people)
    if task.level == "window":
      return [of_rows]
    return [of_rows, dataclasses.replace(of_rows.of_people(), level=f"{share}, person")]


def _run_jobs(study: Study, jobs: list[Job]) -> list[Predictions]:
  """The predictions of all cells; computes those that are not stored yet."""
  steps = study.config.steps
  missing = [job for job in jobs if job.cell.read(study.folder) is None]
  if len(missing) < len(jobs):
    print(f"there already: {len(jobs) - len(missing)} of {counted(len(jobs), 'training')}: {study.folder}")
  with progress_bar(len(missing) * steps, "finetune", "step") as bar:
    for done, job in enumerate(missing):
      advance = lambda step, done=done: bar.update(done * steps + step - bar.n)
      bar.set_postfix_str(f"{job.cell.model}, {job.cell.task}, {job.cell.percent:g} %", refresh=False)
      study.run(job, advance)
      advance(steps)
  found: list[Predictions] = []
  for job in jobs:
    stored = job.cell.read(study.folder)
    if stored is None:
      c = job.cell
      raise results.ResultsError(
        f"{study.folder}: the training of {c.model} on {c.task}, {c.percent:g} % of labels, was changed after it was "
        "written; repeat the command"
      )
    found += stored
  return found
