"""OpenMHC's protocols: what is filled, what is never read, its imputers in our contest, skill scores by hand."""

import math

import jax
import numpy as np
import pytest

from aim.inference.pretrained import Pretrained
from aim.interop.openmhc import Imputer, Method, fill_tasks, linear_probe, person_error, skill_score
from aim.training.trained import source
from data_pipelines.errors import SchemaError
from tests import openmhc_release, tiny

TURNED = (0, 2, 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """OpenMHC's model with random weights."""
  folder = openmhc_release.write(tmp_path_factory.mktemp("interop") / "daily", openmhc_release.weights())
  return Pretrained(source.read(folder), devices=jax.local_devices()[:1])


def batch():
  """Data, observed mask and target mask as OpenMHC has them, and where a value is hidden."""
  days = openmhc_release.days(1)
  data = days.transpose(TURNED)
  observed = ~np.isnan(data)
  target = np.zeros(data.shape, bool)
  target[:, 3:9, 1300:1400] = True
  return data, observed, target & observed


@pytest.mark.slow
def test_targets_alone_are_filled_and_nothing_hidden_is_read(model):
  data, observed, target = batch()
  assert target[:, :7].any() and target[:, 7:].any()
  imputer = Imputer(model)
  filled = imputer.impute(np.where(target, np.nan, data), observed.astype(np.float32), target.astype(np.float32))
  assert filled.dtype == np.float32 and filled.shape == data.shape
  np.testing.assert_array_equal(filled[~target], data[~target])
  equations = openmhc_release.Equations(openmhc_release.weights())
  hidden = np.where(target, np.nan, data).transpose(TURNED)[0]
  mean, std = (np.array(openmhc_release.STATISTICS[key]) for key in ("means", "stds"))
  expected = (equations.reconstruct(hidden) * std + mean).T
  np.testing.assert_allclose(filled[0][target[0]], expected[target[0]], rtol=0, atol=1e-3)
  binary = filled[:, 7:][target[:, 7:]]
  assert ((binary > 0) & (binary < 1)).all(), "probabilities"
  np.testing.assert_array_equal(imputer.impute(data, observed, target), filled, "the truth was there and was not read")


def test_masks_of_another_shape_are_one_line(model):
  data, observed, target = batch()
  with pytest.raises(SchemaError, match=r"^impute: data and masks have shapes \(1, 18, 1440\), \(1, 19, 1440\), expec"):
    Imputer(model).impute(data, observed, target[:, :18])
  with pytest.raises(SchemaError, match=r"^impute: data and masks are a masked array"):
    Imputer(model).impute(np.ma.masked_array(data), observed, target)
  untouched = Imputer(model).impute(data, observed, np.zeros_like(target))
  np.testing.assert_array_equal(untouched, data)


@pytest.mark.parametrize("task_type", ["binary", "regression"])
def test_a_method_is_a_probe_of_the_mean_day(tmp_path, task_type):
  """On a tiny model of our own: the protocol does not depend on the channels."""
  model, days = tiny_model(), tiny.arrays(people=8, days=2)["values"]
  people = [np.concatenate([part, np.isnan(part)], axis=2) for part in np.split(days, 8)]
  people[5] = np.where(np.arange(6) < 3, np.nan, people[5])  # nobody can embed this one
  labels = np.arange(8) % 2 if task_type == "binary" else np.arange(8.0)
  method = Method(model)
  with pytest.raises(SchemaError, match="fit"):
    method.predict(people)
  method.fit(people, labels, task_type)
  predictions = method.predict(iter(people))
  assert predictions.shape == (8,) and np.isnan(predictions[5]) and np.isfinite(np.delete(predictions, 5)).all()
  if task_type == "binary":
    assert (np.nan_to_num(predictions) >= 0).all() and (np.nan_to_num(predictions) <= 1).all()
  np.testing.assert_allclose(method.embed(people)[0], model.embed(days[:2]).mean(0), rtol=1e-5)
  assert tuple(method.data_spec) == ("minute", "day")


def test_the_probe_follows_the_offset_of_labels():
  """Embeddings are float32, in which seconds since 1970 that differ by 30 are equal."""
  embeddings = np.random.default_rng(0).normal(0, 1, (40, 3)).astype(np.float32)
  labels = embeddings[:, 0] * np.float64(30)
  predictions = []
  for offset in (0, 1.7e9):
    probe = linear_probe("regression")
    probe.fit(embeddings, labels + offset)
    predictions.append(probe.predict(embeddings) - offset)
  np.testing.assert_allclose(*predictions, atol=1e-3)


def tiny_model():
  from tests.test_sklearn import SCHEMA, model_of

  return model_of(SCHEMA, 120, jax.local_devices()[:1])


class ForwardFill:
  """Last observation carried forward, in OpenMHC's protocol."""

  def impute(self, data, observed_mask, target_mask):
    filled = data.copy()
    for series in filled.reshape(-1, filled.shape[2]):
      for i in range(1, len(series)):
        series[i] = series[i - 1] if np.isnan(series[i]) else series[i]
    return np.nan_to_num(filled)


def test_their_imputers_fill_the_tasks_of_our_contest(tmp_path):
  rng = np.random.default_rng(0)
  truth = rng.normal(size=(2, 24, 3)).astype(np.float32)
  hidden = np.zeros(truth.shape, bool)
  hidden[:, 10:13] = True
  (tmp_path / "tasks").mkdir()
  np.savez(tmp_path / "tasks" / "train.npz", X=truth)
  about = {"participant": np.array(["a", "b"]), "day": np.arange(2), "task": np.array("random"), "level": np.int64(30)}
  about |= {"mean": np.array([60.0, 5.0, 0.0]), "std": np.array([8.0, 2.0, 1.0]), "indicating_mask": hidden}
  np.savez(tmp_path / "tasks" / "random_30.npz", X=np.where(hidden, np.nan, truth), X_ori=truth, **about)
  (written,) = fill_tasks(ForwardFill(), tmp_path / "tasks", tmp_path / "filled")
  with np.load(written) as arrays:
    np.testing.assert_allclose(arrays["imputation"][:, 10:13], truth[:, 9:10].repeat(3, 1), atol=1e-5)
    np.testing.assert_array_equal(arrays["imputation"][~hidden], truth[~hidden])
    assert set(arrays) == {"imputation", "indicating_mask", "participant", "day", "task", "level"}
  with pytest.raises(SchemaError, match=r"holds no tasks, which config.evaluate.export writes"):
    fill_tasks(ForwardFill(), tmp_path / "nowhere", tmp_path / "filled")


def test_errors_of_a_person_by_hand():
  assert person_error(np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 1.0]), binary=False) == pytest.approx(4 / 3)
  # Three pairs of a 1 and a 0: two in the right order, one in the wrong one.
  assert person_error(np.array([1.0, 0, 0, 0]), np.array([0.5, 0.1, 0.2, 0.9]), binary=True) == pytest.approx(1 / 3)
  assert math.isnan(person_error(np.array([1.0, 1.0]), np.array([0.5, 0.1]), binary=True))
  assert math.isnan(person_error(np.zeros(0), np.zeros(0), binary=False))


def test_skill_scores_by_hand():
  baseline = {"a": {"p": 2.0, "q": 2.0}, "b": {"p": 1.0}, "sleep": {"p": 0.001}}
  errors = {"a": {"p": 1.0, "q": 1.0, "r": 9.0}, "b": {"p": 2.0}}
  assert skill_score(errors, baseline) == pytest.approx(0.0), "half and double: their geometric mean is 1"
  assert skill_score({"a": {"p": 0.5}}, baseline) == pytest.approx(0.75)
  assert skill_score({"a": {"p": 0.0}}, baseline) == pytest.approx(0.99), "a ratio is at least 0.01"
  assert skill_score({"sleep": {"p": 0.004}}, baseline, floor=["sleep"]) == pytest.approx(0.0), "both below the floor"
  assert skill_score({"a": {"p": 1.0, "q": math.nan}}, baseline) == pytest.approx(0.5), "q has no error of its own"
  with pytest.raises(SchemaError, match="no task with errors of the same person"):
    skill_score({"a": {"z": 1.0}}, baseline)
