"""Errors on people never seen: quantiles that hold what they promise, and a command that keeps them with the model."""

import dataclasses
import json
import types
from unittest import mock

import numpy as np
import pytest

import aim
from aim.common import seen_people
from aim.common.config_files import ConfigError
from aim.evaluation import calibration
from aim.inference.pretrained import Pretrained
from aim.inference.uncertainty import BINS, LEVELS, Uncertainty
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.trained import source
from data_pipelines.context.profile import Profile
from data_pipelines.errors import CorruptError
from data_pipelines.schema import Channel, Schema
from tests import tiny
from tests.golden import checkpoints as golden

SCHEMA = Schema(5, (Channel("a"), Channel("b"), Channel("asleep", kind="binary")))
SCALE = types.SimpleNamespace(std=np.array([10.0, 2.0, 1.0]))


class Noisy(Pretrained):
  """A model whose errors grow with the distance to what is observed, twice as large on channel a."""

  def __init__(self, truth):
    self.schema, self.scale = SCHEMA, SCALE
    self.truth, self.rng = truth, np.random.default_rng(1)

  context_days = 0

  def reconstruct(self, values, target, progress, profile):
    assert np.isnan(values[target]).all(), "what is scored is hidden"
    bins = calibration.distance_bins(~np.isnan(values), 5)
    return self.truth + self.rng.normal(size=values.shape) * (1 + bins) * np.array([2, 1, 1]) * SCALE.std

  def physical(self, z):
    return z


def test_intervals_hold_the_promised_share_at_every_distance():
  rng = np.random.default_rng(0)
  truth = rng.normal(size=(80, 288, 3))
  truth[:, :, 2] = truth[:, :, 2] > 0
  truth[rng.random(truth.shape) < 0.1] = np.nan
  who = np.array([f"p{d // 4}" for d in range(80)])
  model = Noisy(truth)
  table = calibration.measure(model, (truth, who), (truth, who), ("made_up",))
  assert set(table.errors) == {"a", "b"}
  for level, normal in zip(LEVELS, (0.6745, 1.645), strict=True):
    assert abs(table.coverage[level] - level) < 0.02
    for name, size in (("a", 2), ("b", 1)):
      assert np.allclose(table.errors[name][level], size * normal * np.arange(1, 1 + len(BINS)), rtol=0.2)


def test_a_model_that_reads_other_days_is_measured_with_and_without(capsys):
  truth = np.random.default_rng(0).normal(size=(40, 288, 3))
  who = np.array([f"p{d // 4}" for d in range(40)])

  class Reader(Noisy):
    def reconstruct(self, values, target, progress, profile):
      beside = profile is not None
      assert not beside or profile.known.all(), "days without other days are measured alone"
      self.truth = truth[: len(values)]
      return self.truth + (super().reconstruct(values, target, progress, profile) - self.truth) / (1 + beside)

  number = np.full(truth.shape, 2, np.uint8)
  number[30:] = 0
  profile = Profile(truth.astype(np.float32), number)
  arguments = Reader(truth), (truth, who), (truth, who), ("made_up",), 0, "none"
  table = calibration.measure_with_and_without(*arguments, (profile, profile))
  assert (table.days, table.alone.days) == ((30, 30), (40, 40))
  for name in ("a", "b"):
    np.testing.assert_allclose(np.array(table.alone.errors[name][0.9]), 2 * np.array(table.errors[name][0.9]), rtol=0.2)
  assert Uncertainty.from_dict(json.loads(json.dumps(table.to_dict())), SCHEMA, "table").alone is not None
  nothing = profile._replace(days=np.zeros_like(number))
  table = calibration.measure_with_and_without(*arguments, (profile, nothing))
  assert table.errors == table.alone.errors
  assert "nobody has other days in the split tune or eval; measured without them" in capsys.readouterr().out


def test_a_day_that_cannot_be_read_is_no_context_of_a_run_that_skips_such_days(tmp_path, monkeypatch, capsys):
  dataset = tiny.dataset(tmp_path, people=6, days=3, evaluated=2, tuned=2)
  days = tiny.BrokenDays(dataset.days("tune"), 1)
  monkeypatch.setattr(type(dataset), "days", lambda *_: days)
  found = lambda on_corrupt: list(
    calibration.some_days(dataset, "tune", "tiny", 2, mock.Mock(Pretrained, context_days=1, on_corrupt=on_corrupt))
  )
  assert [bool(profile.known) for _, _, profile in found("skip")] == [False, True], "the first day has only that one"
  assert "record 1 cannot be read; left out of the context" in capsys.readouterr().err
  with pytest.raises(CorruptError, match="record 1"):
    found("stop")


def test_every_person_counts_the_same():
  size = np.concatenate([np.zeros(9_000), np.full(200, 5.0)])
  who = np.array(["many"] * 9_000 + ["few"] * 200)
  assert calibration.error_quantiles(size, np.zeros(9_200, int), who, 0.9)[0] == 5


def test_a_bin_with_few_errors_has_those_of_the_nearest():
  bins = np.repeat([0, 1, 4], [200, 5, 200])
  found = calibration.error_quantiles(np.where(bins == 4, 2.0, 1.0), bins, np.full(405, "p"), 0.5)
  assert found == [1, 1, 2, 2, 2, 2]
  assert np.isnan(calibration.error_quantiles(np.ones(5), np.zeros(5, int), np.full(5, "p"), 0.5)).all()


@pytest.mark.slow
def test_what_is_measured_stays_with_the_parameters(tmp_path, capsys):
  (path,) = golden.FOLDER.glob("0.1.0/lsm2.zip")
  golden.unpacked(path, tmp_path)
  dataset = tiny.dataset(tmp_path, people=12, days=6, evaluated=4, tuned=4)
  data_dir = str(dataset.path.parents[2])
  model = aim.load(tmp_path)
  assert model.uncertainty is None
  with pytest.raises(ConfigError, match=r"^--data=nobody: nobody is in the split tune, expected people never seen$"):
    tiny.dataset(tmp_path, "nobody")
    calibration.calibrate(model, data_dir, ["nobody"], tmp_path)
  calibration.calibrate(model, data_dir, ["tiny"], tmp_path)
  told = capsys.readouterr().out  # the golden checkpoint does not record on whom it was trained
  assert "4 people (tiny; whether the model was trained on them is not known)" in told and "never saw" not in told
  calibrated = aim.load(tmp_path)
  assert calibrated.uncertainty.people == (4, 4) and calibrated.uncertainty.days == (24, 24)
  assert aim.load(next((tmp_path / "checkpoints").iterdir())).uncertainty == calibrated.uncertainty
  calibrated.save(tmp_path / "model")
  assert aim.load(tmp_path / "model").uncertainty == calibrated.uncertainty

  card = (tmp_path / "model" / "README.md").read_text()
  assert "whether the model was trained on them is not known" in card and "whom the model never saw" not in card

  file = tmp_path / calibration.FILE
  written = json.loads(file.read_text())
  source.write_uncertainty(tmp_path, "0" * 32, {key: written[key] for key in written.keys() - {"digest", "of"}})
  assert aim.load(tmp_path).uncertainty is None
  assert "is of other parameters, and is not read" in capsys.readouterr().err
  file.write_text(json.dumps({key: value for key, value in written.items() if key != "digest"}))
  assert aim.load(tmp_path).uncertainty is None
  assert "has no digest, as nothing of this version, and is not read" in capsys.readouterr().err
  for change in ({"people": [5, 4]}, {"errors": {}}, {"of": "0" * 32}):
    file.write_text(json.dumps(written | change))
    with pytest.raises(CheckpointError, match=r"is not what was written; delete it, and --mode=calibrate makes a new"):
      aim.load(tmp_path)
  file.write_text("{")
  with pytest.raises(CheckpointError, match=r"uncertainty.json.*; delete it, and --mode=calibrate makes a new one$"):
    aim.load(tmp_path)


def test_people_who_may_have_been_trained_on_are_not_called_unseen(tmp_path, monkeypatch, capsys):
  dataset = tiny.dataset(tmp_path, people=12, days=1, evaluated=4, tuned=4)
  model = Noisy(None)
  for name, result in {"check_has_decoder": None, "matched": dataset, "check_unseen_people": None}.items():
    monkeypatch.setattr(Noisy, name, lambda *_, result=result: result, raising=False)
  monkeypatch.setattr(Noisy, "parameters_digest", "0" * 32)
  monkeypatch.setattr(Noisy, "seen_people", lambda *_: seen_people.SeenPeople(8, trained, "its start is an export"))
  told = {}
  table = Uncertainty({}, dict.fromkeys(LEVELS, 0.5), {}, (4, 4), (4, 4), ("tiny",))
  monkeypatch.setattr(calibration, "measure", lambda *a: dataclasses.replace(table, seen_in_training=a[-2]))
  for trained in (0, None):
    calibration.calibrate(model, str(dataset.path.parents[2]), ["tiny"], tmp_path)
    told[trained] = capsys.readouterr().out, json.loads((tmp_path / calibration.FILE).read_text())["seen_in_training"]
  assert "whom the model never saw" in told[0][0] and told[0][1] == "none"
  assert "never saw" not in told[None][0] and told[None][1] == "not known"
  assert "note: --data=tiny: 8 people (whether they were trained on is not known: its start is an exp" in told[None][0]
