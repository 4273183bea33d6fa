"""Public functions refuse arrays and numbers that they cannot use in one line, and use no wrong one in silence."""

import dataclasses

import jax
import jaxtyping
import numpy as np
import pytest

from aim.evaluation import metrics, results
from aim.evaluation.metrics import MetricError
from aim.evaluation.probing.learners import FitData, FittedProbe
from aim.evaluation.results import ResultsError
from aim.studies.scaling import power_law
from data_pipelines import npz
from data_pipelines.atlas.counts import count_missing
from data_pipelines.build import build
from data_pipelines.channels.resampling import resample
from data_pipelines.errors import DatasetError, SchemaError, SplitError, UserError
from data_pipelines.loader import eval_loader, train_loader
from data_pipelines.npz import NpzSource
from data_pipelines.schema import Channel, Schema
from data_pipelines.simulator import Simulation
from data_pipelines.splits import FoldSplit, HashSplit
from data_pipelines.subset import chosen_days
from tests import tiny
from tests.report import my_days

NAN = float("nan")
A = Channel("a")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("arguments"))


def rows(**changed):
  """Rows to fit, some of whose arrays are replaced."""
  people = np.array(["p", "q", "r"])
  arrays = {"inputs": np.zeros((3, 2)), "truth": np.zeros(3), "participant": people, "tune": np.zeros(3, bool)}
  return FitData(**arrays | changed)


def score(kind="binary", truth=(0, 1, 1), predicted=None, **options):
  predicted = np.full((3, 2), 0.5) if predicted is None else predicted
  return metrics.agreement(kind, np.array(truth, float), predicted, **options)


def drawn(participants, **options):
  return results.bootstrap(lambda indices: np.array([len(indices)]), participants, **options)


def probe():
  nothing = np.zeros(2)
  return FittedProbe("age", "regression", (), nothing, nothing, np.ones(2), np.ones((1, 2)), np.zeros(1))


@pytest.fixture(scope="module")
def model():
  return my_days.model()


def two_days():
  """Days of two tokens, the first four hours of a channel, and of all 36."""
  days = np.full((2, 24, 3), 70, np.float32)
  days[0] = NAN
  days[0, :4, 0] = 70
  return days


ALONE = {
  "clock of a fraction": (lambda: Schema(2.5, (A,)), SchemaError, "minutes_per_step is 2.5"),
  "clock of a float": (lambda: Schema(5.0, (A,)), SchemaError, "minutes_per_step is 5.0"),
  "clock as text": (lambda: Schema("5", (A,)), SchemaError, "minutes_per_step is '5'"),
  "clock of True": (lambda: Schema(True, (A,)), SchemaError, "minutes_per_step is True"),
  "clock of a stored fraction": (
    lambda: Schema.from_dict({"minutes_per_step": 5.7, "channels": [{"name": "a"}]}),
    SchemaError,
    "minutes_per_step is 5.7",
  ),
  "names for channels": (lambda: Schema(5, ("a",)), SchemaError, "'a' is no Channel"),
  "channel named by a number": (lambda: Channel(5), SchemaError, "name is 5, expected text"),
  "unit of None": (lambda: Channel("a", None), SchemaError, "unit is None, expected text"),
  "clip as text": (lambda: Channel("a", clip="5"), SchemaError, "clip is '5'"),
  "clip of NaN": (lambda: Channel("a", clip=NAN), SchemaError, "clip is nan"),
  "values in one dimension": (lambda: Schema(720, (A,)).check(np.zeros(2), "here"), SchemaError, "have shape (2,)"),
  "shares as text": (lambda: HashSplit(("a", 0.5, 0.5)), SplitError, "split shares are 'a',0.5,0.5"),
  "shares of NaN": (lambda: HashSplit((NAN, 0.5, 0.5)), SplitError, "split shares are nan,"),
  "two shares": (lambda: HashSplit((0.5, 0.5)), SplitError, "expected three shares"),
  "folds of a fraction": (lambda: FoldSplit(2.5, 0), SplitError, "folds is 2.5, expected a whole number"),
  "fold as text": (lambda: FoldSplit(3, "1"), SplitError, "fold is '1', expected a whole number"),
  "negative fold": (lambda: FoldSplit(3, -1), SplitError, "fold is -1"),
  "no simulated people": (lambda: Simulation(0, 1, 0), SchemaError, "participants is 0"),
  "simulated days of a fraction": (lambda: Simulation(1, 1.5, 0), SchemaError, "days is 1.5, expected a whole number"),
  "simulated stranger": (lambda: Simulation(1, 1, 0).person("me"), SchemaError, "unknown participant 'me'"),
  "unknown rule": (lambda: resample(np.zeros((1, 288)), 5, 10, "meen"), SchemaError, "rule is 'meen'"),
  "clock that does not divide": (
    lambda: resample(np.zeros((1, 288)), 5, 7, "mean"),
    SchemaError,
    "a step of 7 minutes",
  ),
  "clock of zero": (lambda: resample(np.zeros((1, 288)), 5, 0, "mean"), SchemaError, "a step of 0 minutes"),
  "values of another clock": (lambda: resample(np.zeros((1, 100)), 5, 10, "mean"), SchemaError, "expected [days, 288]"),
  "unknown kind": (lambda: score("binry"), MetricError, "kind is 'binry'"),
  "truth of NaN": (lambda: score(truth=(0, 1, NAN)), MetricError, "truth is NaN"),
  "class too many": (lambda: score(truth=(0, 1, 2)), MetricError, "expected classes 0 to 1"),
  "negative class": (lambda: score(truth=(0, 1, -1)), MetricError, "expected classes 0 to 1"),
  "class of a fraction": (lambda: score(truth=(0, 1, 0.5)), MetricError, "expected classes 0 to 1"),
  "predictions of NaN": (lambda: score(predicted=np.full((3, 2), NAN)), MetricError, "a prediction is NaN"),
  "predictions in one dimension": (lambda: score(predicted=np.zeros(3)), MetricError, "predictions (3,)"),
  "fewer predictions": (lambda: score(predicted=np.zeros((2, 2))), MetricError, "predictions (2, 2)"),
  "nothing to score": (lambda: score(truth=(), predicted=np.zeros((0, 2))), MetricError, "truth (0,)"),
  "fewer folds": (lambda: score(fold=np.zeros(2, int)), MetricError, "fold has shape (2,)"),
  "nobody to draw": (lambda: drawn([]), ResultsError, "participants have shape (0,)"),
  "no draws": (lambda: drawn(["p", "q"], n_bootstrap=0), ResultsError, "n_bootstrap is 0"),
  "no rows": (
    lambda: rows(inputs=np.zeros((0, 2)), truth=np.zeros(0), participant=np.array([]), tune=np.zeros(0, bool)),
    SchemaError,
    "there are none",
  ),
  "inputs in one dimension": (lambda: rows(inputs=np.zeros(3)), SchemaError, "inputs has shape (3,)"),
  "fewer truths": (lambda: rows(truth=np.zeros(2)), SchemaError, "has shape (3, 2)"),
  "fitted to NaN": (lambda: rows(truth=np.array([0, 1, NAN])), SchemaError, "a truth is NaN"),
  "infinite inputs": (lambda: rows(inputs=np.full((3, 2), np.inf)), SchemaError, "an input is infinite"),
  "tune of numbers": (lambda: rows(tune=np.zeros(3)), SchemaError, "tune is float64, expected bool"),
  "other inputs of a probe": (lambda: probe().predict(np.zeros((1, 3))), SchemaError, "expected [n, 2]"),
  "one input of a probe": (lambda: probe().predict(np.zeros(2)), SchemaError, "inputs have shape (2,)"),
  "law of an infinite x": (lambda: power_law.fit([1, 2, 3, np.inf], [4, 3, 2, 1]), ValueError, "numbers above 0"),
  "law of fewer y": (lambda: power_law.fit([1, 2, 3, 4], [4, 3, 2]), ValueError, "as many numbers of each"),
}

OF_A_DATASET = {
  "batch of a fraction": (lambda d: train_loader(d, batch_size=2.5, seed=0), DatasetError, "batch_size is 2.5"),
  "no batch": (lambda d: train_loader(d, batch_size=0, seed=0), DatasetError, "batch_size is 0"),
  "seed of a fraction": (lambda d: train_loader(d, batch_size=2, seed=0.5), DatasetError, "seed is 0.5"),
  "negative workers": (lambda d: train_loader(d, batch_size=2, seed=0, workers=-1), DatasetError, "workers is -1"),
  "start of a fraction": (lambda d: train_loader(d, batch_size=2, seed=0, start_step=1.5), DatasetError, "is 1.5"),
  "unknown word": (lambda d: train_loader(d, batch_size=2, seed=0, on_corrupt="skpi"), DatasetError, "is 'skpi'"),
  "share of NaN": (
    lambda d: train_loader(d, batch_size=2, seed=0, max_missing=NAN),
    DatasetError,
    "max_missing is nan",
  ),
  "share above 1": (lambda d: chosen_days(d, "pretrain", 1.5), DatasetError, "max_missing is 1.5"),
  "days of a fraction": (lambda d: chosen_days(d, "pretrain", max_days=1.5), DatasetError, "max_days is 1.5"),
  "negative people": (lambda d: chosen_days(d, "pretrain", max_participants=-1), DatasetError, "is -1"),
  "unknown split": (lambda d: chosen_days(d, "train"), DatasetError, "unknown split 'train'"),
  "negative index": (lambda d: evaluated(d, [-1]), DatasetError, "indices hold -1, expected 0 to 5"),
  "index beyond": (lambda d: evaluated(d, [6]), DatasetError, "indices hold 6, expected 0 to 5"),
  "index of a fraction": (lambda d: evaluated(d, [0.5]), DatasetError, "indices are float64"),
  "mask for indices": (lambda d: evaluated(d, [True] * 6), DatasetError, "indices are bool"),
  "negative days": (lambda d: count_missing(d, -1), DatasetError, "days is -1"),
  "counted days of a fraction": (lambda d: count_missing(d, 1.5), DatasetError, "days is 1.5"),
}


def evaluated(dataset, indices):
  return eval_loader(dataset, split="eval", batch_size=2, indices=np.array(indices))


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
  """Annotations are checked by tests alone; users get the errors of the functions themselves."""
  monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def refused(call, kind, message):
  with pytest.raises(kind) as error:
    call()
  assert type(error.value) is kind and "\n" not in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("case", ALONE)
def test_refused_in_one_line(case):
  refused(*ALONE[case])


@pytest.mark.parametrize("case", OF_A_DATASET)
def test_refused_of_a_dataset(dataset, case):
  call, kind, message = OF_A_DATASET[case]
  refused(lambda: call(dataset), kind, message)


@pytest.mark.parametrize("share", [NAN, -0.1, 1.5, "0.8", True])
def test_shares_of_an_npz_file(tmp_path, share):
  path = tiny.write_npz(tmp_path / "days.npz")
  refused(lambda: NpzSource(path, share), SchemaError, f"max_missing is {share!r}, expected 0 to 1")
  original = dict(np.load(path))
  refused(lambda: npz.write_days(tmp_path / "new.npz", original, [1.0]), SchemaError, "values to write are float64 [1]")


@pytest.mark.parametrize("name", [5, None, "", "../x", "a b"])
def test_names_of_datasets(tmp_path, name):
  refused(lambda: build(Simulation(1, 1, 0), tmp_path, name), DatasetError, f"dataset name is {name!r}")


@pytest.mark.parametrize(
  ("days", "message"),
  [
    ((), "encoder_sizes: there are no days"),
    ((np.zeros((24, 3)),), "encoder_sizes: values have shape (24, 3)"),
    ((np.zeros((0, 24, 3)),), "encoder_sizes: there are no days"),
    ((np.full((1, 24, 3), np.inf),), "is infinite"),
    ((np.zeros((1, 24, 3)), np.zeros((1, 24, 3), complex)), "encoder_sizes: values are complex128"),
  ],
)
def test_days_for_buffers(model, days, message):
  refused(lambda: model.encoder_sizes(*days), SchemaError, message)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      {"encoder": 2},
      "encode: row 1 has 36 tokens, but sizes are buffers of 2 tokens; model.encoder_sizes(days), of all ",
    ),
    ({"largest": 5}, "encode: row 1 has 36 tokens, but sizes are buffers of 5 tokens; model.encoder_sizes(days)"),
    ({"groups": 1}, "encode: sizes are of days that are packed in 1 buffers, expected those that model.encoder_sizes("),
    (
      {"tokens": 7},
      "encode: sizes are of days of 7 tokens, the model's have 36, expected those that model.encoder_siz",
    ),
    (None, "encode: sizes are a NoneType, expected those that model.encoder_sizes(days) returns"),
  ],
)
def test_buffers_of_other_days(model, change, message):
  days = two_days()
  sizes = change and dataclasses.replace(model.encoder_sizes(days), **change)
  refused(lambda: model.encode(model.params, days, sizes), SchemaError, message)


def test_in_jit_a_day_that_a_buffer_does_not_hold_is_nan(model):
  days = two_days()
  right = model.encode(model.params, days, model.encoder_sizes(days))
  small = dataclasses.replace(model.encoder_sizes(days), encoder=2)
  found = jax.jit(model.encode, static_argnums=2)(model.params, days, small)
  assert right.lengths.tolist() == found.lengths.tolist() == [2, 36]
  assert np.isnan(found.embeddings[1]).all() and np.isfinite(right.embeddings).all()
  np.testing.assert_allclose(found.embeddings[0, :2], right.embeddings[0, :2], atol=1e-5)


def test_counts_of_padded_buffers(model):
  padded_sizes = model.functions.padded_sizes
  refused(lambda: padded_sizes(37, 1), SchemaError, "padded_sizes: visible is 37, expected 0 to 36, the tokens of")
  refused(lambda: padded_sizes(1, -1), SchemaError, "padded_sizes: targets is -1, expected 0 to 36")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"channels": "pulse"}, "channels"),
    ({"channels": 5}, "channels"),
    ({"channels": [1, 2, 3]}, "channels"),
    ({"channels": []}, "expected .days, steps, 0."),
    ({"channels": ["heart_rate", "steps", None]}, "channels"),
    ({"minutes_per_step": 0}, "24 steps of 0 min"),
    ({"minutes_per_step": 2.5}, "minutes_per_step is 2.5, expected a whole number"),
    ({"minutes_per_step": "60"}, "minutes_per_step is '60', expected a whole number"),
    ({"minutes_per_step": -60}, "24 steps of -60 min"),
    ({"units": {"nobody": "bpm"}}, "nobody"),
    ({"units": {"glucose": 5}}, "unit"),
    ({"units": ["bpm"]}, "units"),
  ],
)
@pytest.mark.parametrize("method", ["embed", "impute", "reconstruct", "encode_tokens"])
def test_described_days(model, method, options, message):
  with pytest.raises(UserError, match=message) as error:
    getattr(model, method)(np.zeros((1, 24, 3)), **options)
  assert "\n" not in str(error.value)


def test_numpy_numbers_are_numbers(dataset):
  assert Schema(np.int64(5), (Channel("a", clip=np.float32(3)),)).steps == 288
  assert FoldSplit(np.int64(3), np.int32(0)).folds == 3
  assert len(chosen_days(dataset, "pretrain", np.float64(1), max_days=np.int64(2))) == 2
  assert len(next(evaluated(dataset, np.array([0, 5], np.uint8)))["day"]) == 2
