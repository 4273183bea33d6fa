"""The shipped recipes: what OpenMHC's makes of an Apple export, against values worked out by hand."""

import numpy as np
import pytest

from data_pipelines.build import main
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.ingest import recipes
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from tests.data_pipelines.ingest import openmhc_export
from tests.data_pipelines.ingest.importers.test_watch_and_phone import with_steps


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  """Days by date, {channel: float32 [1440]}, and the dataset."""
  folder = tmp_path_factory.mktemp("openmhc")
  export = openmhc_export.write(folder / "export", *openmhc_export.DAY, *openmhc_export.PHONE_DAY)
  flags = ["--source=apple", "--recipe=openmhc", f"--input={export}", f"--data_dir={folder / 'data'}", "--name=mine"]
  assert main(["build", *flags, "--timezone=Europe/Berlin"]) == 0
  dataset = Dataset.open(folder / "data", "mine")
  days = list(dataset.days("pretrain"))
  names = dataset.schema.names
  return {day["date"].decode(): dict(zip(names, day["values"].T, strict=True)) for day in days}, dataset


def test_counts_are_those_of_their_device_and_0_on_the_rest_of_its_days(built):
  day = built[0]["2024-05-01"]
  metres = 0.1 * 1609.344
  np.testing.assert_array_equal(day["iphone_steps"], with_steps(_1000=20, _1001=20, _1002=20, _1003=20, _1004=20))
  np.testing.assert_array_equal(day["watch_steps"], with_steps(_1001=30, _1002=30))
  np.testing.assert_allclose(day["iphone_distance"], with_steps(_1000=metres / 2, _1001=metres / 2), rtol=1e-6)
  np.testing.assert_allclose(day["watch_distance"], with_steps(_1000=30, _1001=30, _1002=30), rtol=1e-6)
  np.testing.assert_array_equal(day["iphone_flights"], with_steps(_1100=1, _1101=1))
  np.testing.assert_array_equal(day["watch_energy"], with_steps(_1000=1.5))


def test_the_heart_rate_is_the_watchs_and_missing_where_it_measured_none(built):
  heart = built[0]["2024-05-01"]["watch_hr"]
  assert heart[600] == 62 and np.isnan(heart).sum() == 1439


def minutes(values):
  """The first and last minute of each run of ones."""
  edges = np.flatnonzero(np.diff(np.concatenate([[0], values == 1, [0]])))
  return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]


def test_sleep_and_workouts_are_1_while_they_last(built):
  day = built[0]["2024-05-01"]
  ones = {name: minutes(values) for name, values in day.items() if name.startswith(("sleep", "workout"))}
  assert {name: runs for name, runs in ones.items() if runs} == {
    "sleep_asleep": [(30, 299), (310, 359)],
    "sleep_inbed": [(0, 389)],
    "workout_walking": [(600, 604)],
    "workout_strength": [(1080, 1100)],  # the minutes that it touches
  }
  assert all(
    set(values) == {0, 1} if ones[name] else set(values) == {0} for name, values in day.items() if name in ones
  )


def test_a_day_without_the_watch_says_nothing_of_it(built):
  day = built[0]["2024-05-02"]
  np.testing.assert_array_equal(day["iphone_steps"], with_steps(_0900=30))
  assert minutes(day["workout_yoga"]) == [(1200, 1244)] and day["workout_yoga"][0] == 0
  known = {"iphone_steps", "iphone_distance", "iphone_flights", "workout_yoga"}
  assert {name for name, values in day.items() if not np.isnan(values).all()} == known


def test_what_the_recipe_leaves_out_is_counted_and_workouts_stay_events(built):
  dataset = built[1]
  rows = (dataset.path / "account.csv").read_text()
  # The pedometer's steps, the chest strap's beats and the watch's flights.
  assert ",3,of a device that the recipe leaves out," in rows
  names = [event["name"] for event in dataset.events().to_pylist()]
  assert sorted(names) == ["swimming", "traditional strength training", "walking", "yoga"]


def test_the_recipe_names_what_the_importer_reads(tmp_path):
  known = {signal.name for signal in IMPORTERS["apple"].signals}
  recipe = recipes.load("openmhc")
  assert {signal.source for signal in recipe.signals} <= known | {""}
  events = {event for signal in recipe.signals for event in signal.events}
  kinds = ("Walking", "Cycling", "Running", "Other", "MixedMetabolicCardioTraining", "TraditionalStrengthTraining")
  kinds += ("Elliptical", "HighIntensityIntervalTraining", "FunctionalStrengthTraining", "Yoga")
  workouts = [openmhc_export.workout(kind, "10:00:00", "10:05:00") for kind in kinds]
  export = Export(openmhc_export.write(tmp_path, *workouts), "p1")
  read = IMPORTERS["apple"].read(export, "apple_health_export/export.xml", Account())
  assert {stretch.name for stretch in read} == events


def test_a_recipe_is_a_shipped_one_or_a_file(tmp_path):
  (tmp_path / "mine.yaml").write_text(recipes.load("openmhc").to_yaml())
  assert recipes.load(str(tmp_path / "mine.yaml")) == recipes.load("openmhc")
  with pytest.raises(SchemaError, match="openmcc: no such file"):
    recipes.load("openmcc")
