"""Garmin, Health Connect and NHANES: from an export, through the build command, to what the loader yields."""

import numpy as np
import pytest

from data_pipelines import build
from data_pipelines.dataset import Dataset
from data_pipelines.loader import eval_loader
from data_pipelines.splits import SPLITS
from tests.data_pipelines.ingest.importers import test_garmin as garmin
from tests.data_pipelines.ingest.importers import test_health_connect as health_connect
from tests.data_pipelines.ingest.importers import test_nhanes as nhanes


@pytest.fixture
def imported(tmp_path, capsys):
  def run(source, path, *more):
    """{(participant, date): {channel: float32 [1440]}} of a dataset built by the command."""
    build.FLAGS.unparse_flags()
    for flag in build.FLAGS:
      build.FLAGS[flag].unparse()  # forget the flags of another test
    places = [f"--input={path}", f"--data_dir={tmp_path / 'data'}", "--name=mine", "--max_missing=1"]
    assert build.main(["build", f"--source={source}", *places, *more]) == 0, capsys.readouterr().err
    dataset = Dataset.open(tmp_path / "data", "mine")
    days = {}
    for split in SPLITS:
      for n in range(dataset.num_days(split)):
        day = dataset.days(split)[n]
        days[day["participant"].decode(), day["date"].decode()] = dict(
          zip(dataset.schema.names, day["values"].T, strict=True)
        )
      if dataset.num_days(split):
        loaded = np.concatenate([batch["values"] for batch in eval_loader(dataset, split=split, batch_size=1)])
        stored = [day["values"] for day in dataset.days(split)]
        assert np.array_equal(loaded, np.stack(stored), equal_nan=True)
    return days, dataset

  return run


def minutes(values):
  """{minute: value} of the observed values."""
  return {int(k): float(values[k]) for k in np.flatnonzero(~np.isnan(values))}


def test_garmin(imported, tmp_path):
  at = garmin.MIDNIGHT  # of 2026-01-01 at UTC+2, as the file says
  beats = [garmin.half(at + 60 * k, heart_rate=60 + k % 20) for k in range(1, 600)]
  walk = [garmin.row(at + 60 * k, cycles=5 * k, activity_type="walking") for k in range(100, 104)]
  levels = [("SLEEP_LEVEL", {"timestamp": at + 60 * k, "sleep_level": s}) for k, s in ((5, "deep"), (9, "awake"))]
  session = {"timestamp": at, "start_time": at + 6060, "total_elapsed_time": 180.0, "sport": "walking"}
  data = garmin.fit_file(garmin.head(), garmin.info(), *beats, *walk, *levels, ("SESSION", session))
  garmin.account_export(tmp_path / "me.zip", {"a@b.c_1.fit": data}, [])
  days, dataset = imported("garmin", tmp_path / "me.zip")
  ((key, day),) = days.items()
  assert key == ("me", "2026-01-01")
  assert minutes(day["heart_rate"]) == {k: 60.0 + k % 20 for k in range(1, 600)}
  assert minutes(day["asleep"]) == {5: 1, 6: 1, 7: 1, 8: 1, 9: 0}
  steps = minutes(day["steps"])
  assert [steps[k] for k in (100, 101, 102)] == [10, 10, 10] and steps[300] == 0 and 900 not in steps
  (event,) = dataset.events().to_pylist()
  assert (event["name"], event["start"], event["end"]) == ("walking", 101, 104)


def test_health_connect(imported, tmp_path):
  health_connect.database(tmp_path / "health_connect_export.db", *health_connect.ALL)
  days, dataset = imported("health_connect", tmp_path / "health_connect_export.db", "--timezone=Europe/Berlin")
  day = days["health_connect_export", "2026-02-01"]  # T is its midnight, an hour ahead of UTC
  assert dataset.schema.names[:2] == ("heart_rate", "steps")
  assert minutes(day["steps"]) == {
    **{k: 10.0 for k in range(5)},  # the watch, before the phone
    **{k: pytest.approx(140 / 15) for k in range(5, 15)},
  }
  assert sum(minutes(day["calories"]).values()) == pytest.approx(18.2505, rel=1e-5)
  assert minutes(day["skin_temperature"]) == {0: 33.25}
  asleep = minutes(day["asleep"])
  assert asleep == {k: float(k // 10 in (2, 4, 5, 6)) for k in range(10, 80)}
  assert {e["name"] for e in dataset.events().to_pylist()} == {"sleep", "running", "other"}


def test_nhanes(imported, tmp_path):
  rows = [*nhanes.hip(21005, 1, range(1, 2881)), *nhanes.hip(21006, 5, range(1, 1441), PAXINTEN=9)]
  (tmp_path / "PAXRAW_D.XPT").write_bytes(nhanes.xpt(nhanes.RAW, rows))
  days, _ = imported("nhanes", tmp_path / "PAXRAW_D.XPT")
  # Person 21005 starts on a Sunday of the invented week, 21006 on a Thursday.
  assert sorted(days) == [("21005", "2001-01-07"), ("21005", "2001-01-08"), ("21006", "2001-01-04")]
  expected = np.arange(1441, 2881) // 3 % 700
  assert np.array_equal(days["21005", "2001-01-08"]["activity_counts"], expected.astype(np.float32))


def test_nhanes_wrist(imported, tmp_path):
  rows = [*nhanes.wrist(62161, 7, 1200, 1000)]
  (tmp_path / "PAXMIN_G.XPT").write_bytes(nhanes.xpt(nhanes.MIN, rows))
  days, _ = imported("nhanes", tmp_path / "PAXMIN_G.XPT")
  assert sorted(date for _, date in days) == ["2001-01-06", "2001-01-07"]
  assert minutes(days["62161", "2001-01-06"]["mims"]) == {1200 + k: 0.25 * (k % 90) for k in range(240)}
  assert minutes(days["62161", "2001-01-07"]["asleep"]) == {k: float(k % 2) for k in range(760)}
