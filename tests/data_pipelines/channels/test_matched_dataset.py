"""A dataset in another schema: days, people, labels, events, statistics and loaders, with nothing lost in silence."""

import pickle

import numpy as np
import pytest

from data_pipelines.build import build, npz_request
from data_pipelines.channels import vocabulary
from data_pipelines.channels.matched_dataset import MatchedDataset, matched
from data_pipelines.channels.matching import MatchingError
from data_pipelines.loader import eval_loader, train_loader
from data_pipelines.npz import NpzSource
from data_pipelines.schema import Channel, Schema
from data_pipelines.splits import ListSplit
from data_pipelines.subset import chosen_days, day_owners
from tests import tiny

VOCABULARY = vocabulary.load()
TARGET = Schema(
  120,
  (
    Channel("asleep", kind="binary"),
    Channel("glucose", "mmol/L"),
    Channel("steps", "steps"),
    Channel("heart_rate", "bpm"),
  ),
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
  """Hourly days of eight people; nothing but mood was recorded on the first day of p0 and in all of p7."""
  folder = tmp_path_factory.mktemp("stored")
  arrays = tiny.arrays(channels=("pulse", "steps", "mood", "asleep"))
  arrays["values"][[0, 14, 15]] = np.nan
  arrays["values"][[0, 14, 15], :, 2] = 3
  arrays["minute_labels"] = np.full((*arrays["values"].shape[:2], 1), -1, np.int8)
  arrays["minute_labels"][:, 3:6] = 1
  arrays["minute_label_names"] = np.array(["walk"])
  np.savez(folder / "own.npz", **arrays)
  source = NpzSource(folder / "own.npz")
  people = list(source.participants)
  split = ListSplit(tuple(people[:5]), (), tuple(people[5:]))
  return build(source, folder / "data", "own", split=split, request=npz_request(folder / "own.npz"))


@pytest.fixture(scope="module")
def seen(stored):
  return matched(stored, TARGET, VOCABULARY)


def test_equal_schemas_need_no_view(stored):
  assert matched(stored, stored.schema, VOCABULARY) is stored


def test_days_are_those_of_the_target_without_empty_ones(stored, seen, capsys):
  fresh = matched(stored, TARGET, VOCABULARY)
  assert isinstance(fresh, MatchedDataset) and fresh.schema == TARGET
  assert (fresh.num_days("pretrain"), fresh.num_days("tune"), fresh.num_days("eval")) == (9, 0, 4)
  note = capsys.readouterr().err
  assert "dataset 'own', pretrain: 1 day left out" in note and "eval: 2 days left out" in note
  assert len(fresh.days("eval")) == 4 and "p7" in stored.people("eval") and "p7" not in fresh.people("eval")
  day, own = fresh.days("pretrain")[0], stored.days("pretrain")[1]
  assert (day["participant"], day["date"]) == (own["participant"], own["date"]) and day["values"].shape == (12, 4)
  steps = own["values"][:, 1].reshape(12, 2)
  enough = ~np.isnan(steps).all(1)
  np.testing.assert_allclose(day["values"][enough, 2], 2 * np.nanmean(steps[enough], axis=1), rtol=1e-5)
  assert np.isnan(day["values"][:, 1]).all() and set(day["values"][:, 0][~np.isnan(day["values"][:, 0])]) <= {0, 1}


def test_tables_agree_with_the_days(stored, seen):
  table = seen.participants().to_pydict()
  assert dict(zip(table["participant"], table["days"], strict=True))["p0"] == 1 and "p7" not in table["participant"]
  owners, _ = day_owners(seen, "pretrain")
  assert owners.tolist() == [day["participant"].decode() for day in seen.days("pretrain")]
  assert len(seen.missing_shares("pretrain")) == 9 and len(chosen_days(seen, "pretrain", 0.9)) == 9
  events = seen.events().to_pylist()
  assert len(events) == 13 and len(stored.events()) == 16
  assert {(event["start"], event["end"]) for event in events} == {(1, 3)}  # hours 3 to 6, rounded outwards
  assert ("p0", 0) not in {(event["participant"], event["day"]) for event in events}


def test_statistics_are_those_of_the_matched_days(seen):
  values = np.stack([day["values"] for day in seen.days("pretrain")])
  statistics = seen.statistics
  assert statistics.count.tolist() == (~np.isnan(values)).sum((0, 1)).tolist()
  np.testing.assert_allclose(statistics.mean[2:], np.nanmean(values[..., 2:], (0, 1)), rtol=1e-6)
  np.testing.assert_allclose(statistics.std[2:], np.nanstd(values[..., 2:], (0, 1)), rtol=1e-6)
  assert (statistics.count[1], statistics.mean[1], statistics.std[1]) == (0, 0, 1)
  assert np.isnan(statistics.time_mean[:, 1]).all()


def test_loaders_read_the_view(seen):
  batch = next(iter(eval_loader(seen, split="eval", batch_size=4)))
  assert batch["values"].shape == (4, 12, 4) and batch["weight"].tolist() == [1] * 4
  with train_loader(seen, batch_size=4, seed=0) as loader:
    assert next(loader)["values"].shape == (4, 12, 4)
  days = pickle.loads(pickle.dumps(seen.days("eval")))  # as grain's worker processes get it
  np.testing.assert_array_equal(days[0]["values"], seen.days("eval")[0]["values"])


def test_digests_tell_views_and_datasets_apart(stored, seen):
  other = matched(stored, Schema(60, TARGET.channels), VOCABULARY)
  assert len({stored.digest, seen.digest, other.digest}) == 3
  assert seen.digest_of("eval") == matched(stored, TARGET, VOCABULARY).digest_of("eval") != stored.digest_of("eval")


def test_what_does_not_match_names_the_dataset(stored):
  with pytest.raises(MatchingError, match="dataset 'own': none of the channels pulse, steps, mood, asleep is one of x"):
    matched(stored, Schema(60, (Channel("x"),)), VOCABULARY)
