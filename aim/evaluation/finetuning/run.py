"""--mode=finetune: the pretrained encoder trained on labels, few and many, beside the same from scratch.

A cell is one training: a model on a task with a share of the labelled people. Days of the tune people tell when to
stop; predictions are of people of the eval split. Attention reads what was observed: nothing is hidden or dropped.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.evaluation import predictions, results
from aim.evaluation.finetuning import examples as subsets
from aim.evaluation.finetuning.cells import FinetuneCell, fingerprint
from aim.evaluation.finetuning.examples import LabelledDays, Scaling
from aim.evaluation.finetuning.learning_curve import learning_curves, verdicts
from aim.evaluation.finetuning.networks import NETWORKS, Network, encoder_network, probe_head, resnet_network
from aim.evaluation.finetuning.trainer import Trainer
from aim.evaluation.predictions import Predictions
from aim.evaluation.probing import label_tasks
from aim.evaluation.probing.label_tasks import LabelRows, LabelTask
from aim.evaluation.probing.leak_checks import check_held_out
from aim.inference.pretrained import Pretrained
from aim.model.interpolation import IMPUTATIONS
from data_pipelines.dataset import Dataset

INITS = ("pretrained", "scratch")
HEADS = ("probe", "random")
COMPARE = ("pretrained", "scratch", "resnet")
NAMES = {"scratch": "ViT supervised", "resnet": "ResNet supervised"}


def run_finetune(
  config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path
) -> list[results.Result]:
  """Trains and scores every cell; writes results.csv, predictions.csv, learning_curve.png and cells/ to `output`.

  In the files the level is "10 % of labels, day" (or "person", the mean over a person's days, or "window"), the model
  `model.name`, "ViT supervised" or "ResNet supervised", and the seed that of the training on labels.

  Args:
    config: the whole of it: config.finetune, and config.probe for the tasks.
    model: gives architecture, scale and, where asked for, the parameters to start from.

  Raises:
    UserError (one line): a value that cannot be used, a task that is not there, people of both training and eval.
  """
  raw = config.finetune
  check(raw, model)
  check_held_out(model, dataset)
  asked, left_out = label_tasks.usable_tasks(_wanted(config), dataset)
  print("".join(f"left out: {line}\n" for line in left_out), end="")
  if not asked:
    raise ConfigError(f"dataset {dataset.name!r} has no label that can be learnt")
  study = Study(config, model, dataset, output)
  jobs = [job for task in asked for job in study.jobs(task)]
  found = _run(study, jobs)
  if not found:
    raise ConfigError("config.finetune.label_percent: no share is large enough for any task")
  ours, *others = study.rivals
  lines = predictions.score(found, raw.bootstrap, config.probe.seed, [study.name(rival) for rival in others])
  predictions.write_csv(output / "predictions.csv", found)
  results.write_csv(output / "results.csv", lines)
  learning_curves(lines, output / "learning_curve.png")
  print(f"\n{dataset.name}: {len(dataset.people('eval'))} people never seen in training; [95 % over people]\n")
  print(predictions.format_tables(lines) + "\n")
  print("\n".join(verdicts(lines, study.name(ours))))
  print(f"\n{output / 'results.csv'}\n{output / 'predictions.csv'}\n{output / 'learning_curve.png'}\n{study.cells}")
  return lines


def _wanted(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """config.probe with the tasks of config.finetune, where it names some."""
  wanted = config.probe.copy_and_resolve_references()
  wanted.tasks = config.finetune.tasks or config.probe.tasks
  return wanted


def check(config: ml_collections.ConfigDict, model: Pretrained) -> None:
  """ConfigError for a value of config.finetune that cannot be used, before anything is computed."""
  blocks = model.architecture.encoder.layers
  rules: dict[str, tuple[Callable[[Any], bool], str]] = {
    "init": (lambda x: x in INITS, f"one of {', '.join(INITS)}"),
    "head": (lambda x: x in HEADS, f"one of {', '.join(HEADS)}"),
    "resnet_impute": (lambda x: x in IMPUTATIONS, f"one of {', '.join(IMPUTATIONS)}"),
    "network": (lambda x: x in NETWORKS, f"one of {', '.join(NETWORKS)}"),
    "compare": (lambda x: set(_listed(x)) <= set(COMPARE), f"some of {', '.join(COMPARE)}"),
    "label_percent": (lambda x: all(0 < p <= 100 for p in _some(x)), "shares above 0 and up to 100"),
    "seeds": (lambda x: all(s >= 0 for s in _some(x)), "numbers of 0 or more"),
    "layers": (lambda x: -1 <= x <= blocks, f"-1 to {blocks}, the encoder's blocks"),
    "layer_decay": (lambda x: 0 < x <= 1, "above 0 and up to 1"),
    "learning_rate": (lambda x: x > 0, "a number above 0"),
    "scratch_learning_rate": (lambda x: x > 0, "a number above 0"),
    "warmup_share": (lambda x: 0 <= x < 1, "a share from 0 to below 1"),
  }
  rules |= dict.fromkeys(
    ("batch_size", "steps", "tune_every", "patience", "bootstrap"), (lambda x: x >= 1, "a number of at least 1")
  )
  for key, (usable, expected) in rules.items():
    if not usable(config[key]):
      raise ConfigError(f"config.finetune.{key} is {config[key]!r}, expected {expected}")


def _listed(value: Any) -> tuple:
  return tuple(value) if isinstance(value, tuple | list) else (value,)


def _some(value: Any) -> tuple[float, ...]:
  """The numbers asked for; one that no rule allows where there is none."""
  return _listed(value) or (-1,)


@dataclasses.dataclass(frozen=True)
class Job:
  """A cell, and whose days it trains on and stops on."""

  cell: FinetuneCell
  rival: str
  task: LabelTask
  people: frozenset[str]
  tune: frozenset[str]


class Study:
  """All that the cells of one command share.

  Attributes:
    rivals: of COMPARE, the one asked for first.
  """

  def __init__(self, config: ml_collections.ConfigDict, model: Pretrained, dataset: Dataset, output: pathlib.Path):
    self.config, self.model, self.dataset, self.cells = config.finetune, model, dataset, output / "cells"
    self.probe = config.probe
    first = "resnet" if self.config.network == "resnet" else self.config.init
    self.rivals = tuple(dict.fromkeys((first, *_listed(self.config.compare))))
    self.settings = fingerprint(config, model, dataset.request)
    days = LabelledDays.read(dataset, self.config.batch_size)
    self.tune_people = set(dataset.people("tune"))
    self.training = days["pretrain"].join(days["tune"]) if "tune" in days else days["pretrain"]
    self.held_out = days["eval"]
    self.sizes = model.encoder_sizes(*(part.values for part in days.values()))
    self._trainers: dict[tuple[str, int], Trainer] = {}

  def name(self, rival: str) -> str:
    """Of a rival, in tables."""
    return NAMES.get(rival, self.model.name)

  def jobs(self, task: LabelTask) -> Iterator[Job]:
    """The cells of a task; shares of the labels that are too few are told and left out."""
    strata = self.training.strata(task, self.training.rows(task))
    tune = {person for person in strata if person in self.tune_people}
    if not tune:
      tune = set(subsets.held_back(strata))
    known = {person: classes for person, classes in strata.items() if person not in tune}
    for seed, percent in itertools.product(_listed(self.config.seeds), sorted(set(_listed(self.config.label_percent)))):
      people = subsets.subset(known, percent, seed)
      reason = subsets.too_few(known, people) if tune else "nobody is left to stop early on"
      if reason:
        print(f"left out: {task.name} at {percent:g} % of the labels (seed {seed}): {reason}")
        continue
      for rival in self.rivals:
        cell = FinetuneCell(self.name(rival), task.name, float(percent), int(seed), self.settings)
        yield Job(cell, rival, task, frozenset(people), frozenset(tune))

  def trainer(self, rival: str, outputs: int) -> Trainer:
    """Compiled once, used for every cell of a model and a number of outputs."""
    key = rival, outputs
    if key not in self._trainers:
      rate = self.config.learning_rate if rival == "pretrained" else self.config.scratch_learning_rate
      self._trainers[key] = Trainer(self.network(rival, outputs), self.config, rate)
    return self._trainers[key]

  def network(self, rival: str, outputs: int) -> Network:
    if rival == "resnet":
      return resnet_network(self.model, outputs, self.config.resnet_impute)
    if rival == "scratch":
      return encoder_network(self.model, outputs, self.sizes, pretrained=False)
    return encoder_network(
      self.model, outputs, self.sizes, layers=self.config.layers, layer_decay=self.config.layer_decay
    )

  def run(self, job: Job, progress: Callable[[int], Any]) -> None:
    """Trains, predicts the held-out people and keeps both."""
    started = time.perf_counter()
    task, days = job.task, self.training
    rows = days.rows(task)
    train = days.of(rows, job.people)
    scaling = Scaling.of(task, train.truth, self.config.class_balanced)
    trainer = self.trainer(job.rival, max(len(task.classes), 1))
    tune = scaling.examples(task, days, days.of(rows, job.tune))
    examples = scaling.examples(task, days, train)
    head = None
    if job.rival == "pretrained" and self.config.head == "probe":
      inputs = trainer.pooled(trainer.network.init(jax.random.key(job.cell.seed)), examples)
      whose, balanced = days.participant, self.config.class_balanced
      head = probe_head(task, scaling, train, whose, inputs, self.probe.strengths, self.probe.pca, balanced)
    fitted = trainer.fit(examples, tune, job.cell.seed, progress, head)
    asked = self.held_out.rows(task)
    outputs = trainer.predict(fitted.params, scaling.examples(task, self.held_out, asked))
    about = {
      "people": sorted(job.people),
      "tune_people": sorted(job.tune),
      "days": len(np.unique(train.day)),
      "best_step": fitted.best_step,
      "steps": fitted.steps,
      "curve": fitted.curve,
      "seconds": round(time.perf_counter() - started, 1),
    }
    job.cell.write(self.cells, self.predicted(job, asked, scaling.answers(task, asked, outputs)), about)

  def predicted(self, job: Job, rows: LabelRows, answers: np.ndarray) -> list[Predictions]:
    """Of days and of people, or of stretches of days."""
    days, task, share = self.held_out, job.task, f"{job.cell.percent:g} % of labels"
    head = (self.dataset.name, task.name, f"{share}, {task.level}", task.kind, task.classes, job.cell.model)
    place = (days.participant[rows.day], days.day[rows.day], days.date[rows.day], rows.start, rows.end)
    of_days = Predictions(*head, job.cell.seed, *place, rows.truth, answers)
    if task.level == "window":
      return [of_days]
    return [of_days, dataclasses.replace(of_days.of_people(), level=f"{share}, person")]


def _run(study: Study, jobs: list[Job]) -> list[Predictions]:
  """Predictions of all cells, those that are not there computed first."""
  steps = study.config.steps
  missing = [job for job in jobs if job.cell.read(study.cells) is None]
  if len(missing) < len(jobs):
    print(f"{len(jobs) - len(missing)} of {len(jobs)} trainings are there already: {study.cells}")
  with progress_bar(len(missing) * steps, "finetune", "step") as bar:
    for done, job in enumerate(missing):
      where = lambda step, done=done: bar.update(done * steps + step - bar.n)
      bar.set_postfix_str(f"{job.cell.model}, {job.cell.task}, {job.cell.percent:g} %", refresh=False)
      study.run(job, where)
      where(steps)
  return [p for job in jobs for p in job.cell.read(study.cells) or []]
