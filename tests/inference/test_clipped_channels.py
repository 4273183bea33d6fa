"""Days of another range than the training data's: channels that would be clipped are normalised by the days."""

import functools
import pickle

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from aim.inference import stablehlo, uncertainty
from aim.inference.clipped_channels import FEWEST
from aim.inference.commands import normalised_for
from aim.training.checkpoint import CheckpointError
from data_pipelines.channels import vocabulary
from data_pipelines.errors import SchemaError
from data_pipelines.schema import Channel, Schema
from tests import tiny
from tests.inference.test_matched_days import SCHEMA, model
from tests.inference.test_pretrained import pretrained

HEART_RATE, ASLEEP, GLUCOSE = range(3)  # of mean 70, -, 33 and SD 10, -, 1; clipped at five SDs
STATISTICS = ("mean", "std", "low", "high", "reference_mean", "reference_std")


def usual_days(count=20):
  """Days of the mean and SD of the training data, with holes."""
  rng, scale = np.random.default_rng(0), model().scale
  values = rng.normal(scale.mean, scale.std, (count, 24, 3))
  values[:, :, ASLEEP] = rng.random((count, 24)) < 0.3
  values[rng.random(values.shape) < 0.2] = np.nan
  return values.astype(np.float32)


def fast_days(mean=150.0, sd=20.0, count=20):
  """Days with heart rates of a range that the model never saw."""
  values = usual_days(count)
  values[:, :, HEART_RATE] = np.clip((values[:, :, HEART_RATE] - 70) / 10 * sd + mean, 30, 240)
  return values


@settings(max_examples=4, phases=[Phase.generate])
@given(st.floats(130, 180), st.floats(5, 25))
def test_a_clipped_channel_is_read_as_if_it_had_the_training_datas_mean_and_sd(mean, sd):
  values, scale = fast_days(mean, sd), model().scale
  usual, rates = values.copy(), values[:, :, HEART_RATE].astype(np.float64)
  usual[:, :, HEART_RATE] = (rates - np.nanmean(rates)) / np.nanstd(rates) * scale.std[HEART_RATE] + 70
  ours, theirs = model().normalised_by_days(values).reconstruct(values), model().reconstruct(usual)
  np.testing.assert_allclose(ours, theirs, atol=2e-3)
  assert np.abs(ours - model().reconstruct(values)).max() > 0.01


def test_other_days_of_a_person_are_normalised_alike():
  trained = pretrained(SCHEMA, batch_size=8, model__context_days=3, model__interpolation_skip=True)
  values, scale = fast_days(), trained.scale
  values[3, :, HEART_RATE], values[4] = np.nan, np.nan
  usual, rates = values.copy(), values[:, :, HEART_RATE].astype(np.float64)
  usual[:, :, HEART_RATE] = (rates - np.nanmean(rates)) / np.nanstd(rates) * scale.std[HEART_RATE] + 70
  whose = {"people": ["a", "b"] * 10, "dates": list(range(20))}
  own = trained.normalised_by_days(values)
  ours = own.reconstruct(values, **whose)
  np.testing.assert_allclose(ours, trained.reconstruct(usual, **whose), atol=1e-4)
  assert np.abs(ours - own.reconstruct(values))[3, :, HEART_RATE].max() > 0.01, "other days are read"
  filled = own.impute(values, **whose)
  np.testing.assert_array_equal(own.impute(values, channels=["pulse", *SCHEMA.names[1:]], **whose), filled)
  assert filled[3:5, :, HEART_RATE].min() > scale.high[HEART_RATE]


def test_what_is_filled_in_lies_in_the_range_of_the_days():
  values = fast_days(160, 12, count=30)
  values[:, 8:16, HEART_RATE] = np.nan
  filled = model().normalised_by_days(values).impute(values)[:, 8:16, HEART_RATE]
  highest = model().scale.high[HEART_RATE]
  assert model().impute(values)[:, 8:16, HEART_RATE].max() <= highest < np.nanmin(values[:, :, HEART_RATE])
  assert np.nanmin(values[:, :, HEART_RATE]) <= filled.min() and filled.max() <= np.nanmax(values[:, :, HEART_RATE])


def test_other_channels_keep_the_models_statistics(capsys):
  own = model().normalised_by_days(fast_days())
  assert "normalised by these days: heart_rate (9" in capsys.readouterr().err
  for name in STATISTICS:
    ours, theirs = getattr(own.scale, name), getattr(model().scale, name)
    np.testing.assert_array_equal(ours[[ASLEEP, GLUCOSE]], theirs[[ASLEEP, GLUCOSE]])
  assert own.scale.mean[HEART_RATE] == pytest.approx(150, abs=3)


def narrow():
  values = usual_days()
  values[:, :, GLUCOSE] = 34.5 + 0.1 * (values[:, :, GLUCOSE] - 33)  # a person's level, 1.5 SDs away
  return values


def spiky():
  values = usual_days()
  values[0, 3, HEART_RATE], values[1, 3, GLUCOSE], values[2, 3, GLUCOSE] = 65535, 1e30, -999
  return values


def in_another_unit():
  return usual_days() * np.array([1, 1, 18], np.float32)  # mg/dL, most of which are no glucose in mmol/L


def few():
  values = fast_days(count=1 + FEWEST // 24)
  values[:, 2:, HEART_RATE] = np.nan
  return values


def constant():
  values = usual_days()
  values[:, :, HEART_RATE] = 200
  return values


def all_missing():
  return np.full((20, 24, 3), np.nan, np.float32)


@pytest.mark.parametrize("days", [usual_days, narrow, spiky, all_missing])
def test_other_days_change_nothing(days, capsys):
  assert model().normalised_by_days(days()) is model()
  assert "normalised by these days: no channel, because few values would be clipped\n" in capsys.readouterr().err


@pytest.mark.parametrize(
  "days, why",
  [
    (in_another_unit, "glucose (100 % of the values are over {}; 100 % are outside 0.1 to 40 mmol/L: check the unit)"),
    (few, "{}; they are fewer than 288)"),
    (constant, "heart_rate (100 % of the values are over {}; they are all the same)"),
  ],
)
def test_a_channel_that_cannot_be_normalised_is_named_with_the_reason(days, why, capsys):
  assert model().normalised_by_days(days()) is model()
  printed = capsys.readouterr().err
  assert "normalised by these days: no channel\n" in printed and "clipped all the same: " in printed
  assert why.format("5 SDs from the training data's mean") + "\n" in printed
  assert normalised_for(model(), days(), "own.npz", "checkpoint")[0] is model()
  assert f"note: own.npz: clipped: {printed.rpartition(': clipped all the same: ')[2]}" == capsys.readouterr().err


def test_a_channel_of_which_nobody_knows_what_is_plausible_is_left_alone(tmp_path, capsys):
  own_channel = Schema(60, (*SCHEMA.channels[:2], Channel("grip_force", "kg")))
  values = usual_days()
  values[np.random.default_rng(1).random(values.shape[:2]) < 0.08, 2] = -999  # a code for missing values
  trained = pretrained(own_channel, batch_size=8)
  assert trained.normalised_by_days(values) is trained
  assert "grip_force (9.7 % of the values are over 5 SDs" in (printed := capsys.readouterr().err)
  assert "; the vocabulary has no plausible range for it)\n" in printed
  entry = "{name: grip_force, place: 1000, unit: kg, sensor: grip, range: [0, 100], meaning: how hard the hand grips}"
  (tmp_path / "own.yaml").write_text(f"channels: [{entry}]")
  known = pickle.loads(pickle.dumps(trained))  # trained itself is shared by other tests
  known.vocabulary = vocabulary.load(str(tmp_path / "own.yaml"))
  assert known.normalised_by_days(values) is known
  assert "9.7 % are outside 0 to 100 kg: check the unit" in capsys.readouterr().err
  strong = usual_days() + np.array([0, 0, 20], np.float32)
  assert known.normalised_by_days(strong).scale.mean[2] == pytest.approx(53, abs=1)


def test_spikes_do_not_enter_the_statistics():
  values = fast_days()
  values[0, 3, HEART_RATE], values[1, 3, HEART_RATE] = 65535, 1e30
  with_spikes, without = (model().normalised_by_days(days).scale for days in (values, fast_days()))
  for name in STATISTICS:
    np.testing.assert_allclose(getattr(with_spikes, name), getattr(without, name), rtol=0.01)


def test_zeros_that_are_missing_do_not_enter_the_statistics():
  trained = pretrained(SCHEMA, batch_size=8, data__zero_is_missing=("heart_rate",))
  values = fast_days(count=30)
  values[:, ::3, HEART_RATE] = 0
  own = trained.normalised_by_days(values)
  assert own.scale.low[HEART_RATE] > 0 and own.scale.mean[HEART_RATE] == pytest.approx(150, abs=4)


def test_described_days_are_matched_first():
  values = fast_days()
  own = model().normalised_by_days(values[:, :, [0]] / 60, channels=["pulse"], units={"pulse": "Hz"})
  np.testing.assert_allclose(own.scale.mean, model().normalised_by_days(values).scale.mean, rtol=1e-4)
  with pytest.raises(SchemaError, match="channel"):
    model().normalised_by_days(values[:, :, [0]], channels=["mood"])
  with pytest.raises(SchemaError, match="normalised_by_days: there are no days"):
    model().normalised_by_days(np.zeros((0, 24, 3), np.float32))


def test_a_second_range_replaces_the_first():
  first = model().normalised_by_days(fast_days())
  second = first.normalised_by_days(fast_days(170, 10))
  assert second.scale.mean[HEART_RATE] == pytest.approx(170, abs=2)
  assert first.normalised_by_days(usual_days()) is model()


def test_a_second_range_keeps_how_the_model_computes():
  trained = pretrained(SCHEMA, batch_size=8, data__impute="linear", model__decoder__tokens="all")
  first = trained.normalised_by_days(fast_days()).without_imputed_patches()
  first.one_program = True
  second = first.normalised_by_days(fast_days(170, 10))
  assert second.one_program and not second.functions.reads_imputed_patches
  assert second.scale.mean[HEART_RATE] == pytest.approx(170, abs=2)


def test_a_dataset_is_compared_with_the_training_data(tmp_path, capsys):
  dataset, own = tiny.dataset(tmp_path, channels=("pulse", "steps")), model().normalised_by_days(fast_days())
  capsys.readouterr()
  told = [trained.matched(dataset) and capsys.readouterr().err for trained in (model(), own)]
  assert "unlike the training data: heart_rate: mean" in told[0] and told[0] == told[1]


def test_clipped_channels_of_another_model_are_refused():
  reordered = pretrained(Schema(60, SCHEMA.channels[::-1]), batch_size=8)
  clipped = model().clipped_channels(fast_days())
  expected = "normalised_by: channel 0 is 'heart_rate', expected those of glucose, asleep, heart_rate"
  with pytest.raises(SchemaError, match=expected):
    reordered.normalised_by(clipped)


def test_a_pickled_model_keeps_them():
  own = model().normalised_by_days(fast_days())
  copy = pickle.loads(pickle.dumps(own))
  np.testing.assert_array_equal(copy.scale.mean, own.scale.mean)
  np.testing.assert_allclose(copy.impute(fast_days()), own.impute(fast_days()), rtol=1e-4)
  assert copy.normalised_by_days(usual_days()).scale.mean[HEART_RATE] == 70


def test_it_is_not_exported(tmp_path):
  own = model().normalised_by_days(fast_days())
  for write in (own.save, functools.partial(stablehlo.write, own)):
    with pytest.raises(CheckpointError, match="normalised by other days; save the one that it was made from"):
      write(tmp_path / "export")
  assert not list(tmp_path.iterdir())


def test_a_model_of_imputed_days_is_normalised_alike():
  trained = pretrained(SCHEMA, batch_size=8, data__impute="linear", model__decoder__tokens="all")
  values = fast_days(160, 12)
  values[::2, :, HEART_RATE] = np.nan
  values = np.concatenate([values, fast_days(160, 12)])
  filled = trained.normalised_by_days(values).impute(values)[0, :, HEART_RATE]
  assert filled.min() > trained.scale.high[HEART_RATE] >= trained.impute(values)[0, :, HEART_RATE].max()


def test_intervals_are_never_narrower(monkeypatch):
  sizes = {level: [1.0] * len(uncertainty.BINS) for level in uncertainty.LEVELS}
  table = uncertainty.Uncertainty({"heart_rate": sizes}, {0.5: 0.5, 0.9: 0.9}, {}, (5, 4), (9, 9), ("made_up",))
  for sd in (3.0, 20.0):
    own = model().normalised_by_days(fast_days(150, sd))
    monkeypatch.setattr(own, "uncertainty", table, raising=False)
    days = fast_days(150, sd)
    _, low, high = own.impute_with_interval(days)
    width = (high - low)[np.isnan(days)[:, :, HEART_RATE], HEART_RATE] / 2
    assert width.max() == pytest.approx(max(sd, 10), rel=0.1)
    assert width.min() == pytest.approx(width.max(), rel=1e-3), "not cut off at the lowest of these days"
