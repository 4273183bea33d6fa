"""A head that starts as the frozen encoder's linear probe predicts what the probe does, and is kept if it is best."""

from __future__ import annotations

import functools

import jax
import ml_collections
import numpy as np
import pytest

from aim.evaluation.finetuning.examples import LabelledDays, TargetScaling
from aim.evaluation.finetuning.heads import HEAD, UNSEEN_LOGIT, probe_head
from aim.evaluation.finetuning.trainer import Trainer
from aim.evaluation.probing import learners
from aim.evaluation.probing.label_tasks import LabelTask
from aim.evaluation.probing.learners import FitData
from tests.evaluation.finetuning.small_networks import config, encoder
from tests.inference.test_pretrained import days

PEOPLE = 12
TRUTHS = {
  "regression": (LabelTask("age", "regression", "day", (), {f"p{i}": 20.0 + 3 * i for i in range(PEOPLE)}), 1),
  "binary": (LabelTask("ill", "binary", "day", ("no", "yes"), {f"p{i}": float(i % 2) for i in range(PEOPLE)}), 2),
  # Nobody is of the class "never".
  "multiclass": (
    LabelTask("kind", "multiclass", "day", ("a", "never", "b"), {f"p{i}": 2.0 * (i % 2) for i in range(PEOPLE)}),
    3,
  ),
}


@functools.cache
def study(kind: str):
  """A trainer, its examples, and the head that starts as their probe."""
  task, outputs = TRUTHS[kind]
  people = np.array([f"p{i // 2}" for i in range(2 * PEOPLE)])
  labelled = LabelledDays(days(2 * PEOPLE), people, np.arange(2 * PEOPLE) % 2, np.full(2 * PEOPLE, ""))
  rows = labelled.rows(task)
  scaling = TargetScaling.of_rows(task, rows.truth, True)
  training = scaling.examples(task, labelled, rows)
  trainer = Trainer(encoder(outputs=outputs), config(), 1e-3)
  start = trainer.network.init(jax.random.key(0))
  inputs = trainer.pooled(start, training)
  head = probe_head(task, scaling, rows, people, inputs, (1.0, 100.0), 5, True)
  return task, rows, people, scaling, training, trainer, start, inputs, head


@pytest.mark.parametrize("kind", TRUTHS)
def test_the_network_predicts_what_the_probe_does(kind):
  task, rows, people, scaling, training, trainer, start, inputs, head = study(kind)
  assert set(head) == {name for name in start if name.startswith(HEAD)}
  assert all(head[name].shape == start[name].shape for name in head)
  predicted = scaling.predictions(task, rows, trainer.predict(start | head, training))
  settings = ml_collections.ConfigDict({"pca": 5, "strengths": (1.0, 100.0), "balanced": True})
  probe = learners.fit_linear(settings, task, FitData(inputs[:, 0], rows.truth, people, np.zeros(len(people), bool)))
  expected = probe.predict(inputs[:, 0])
  np.testing.assert_allclose(predicted, expected, rtol=1e-3, atol=np.exp(UNSEEN_LOGIT))
  if task.classes:
    assert (predicted > 0).all()  # also for the class that nobody has, or it could never be learnt


def test_a_head_that_no_step_improves_on_is_kept(monkeypatch):
  *_, training, trainer, start, _, head = study("binary")
  losses = iter([1.0, 3.0, 2.0, 4.0, 5.0])
  monkeypatch.setattr(trainer, "loss", lambda params, batch: next(losses))
  result = trainer.fit(training, training, 0, head=head)
  assert result.best_step == 0
  for name, leaf in (start | head).items():
    np.testing.assert_allclose(result.params[name], leaf, rtol=1e-6, err_msg=name)
