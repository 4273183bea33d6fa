"""Tables in memory: every kind of table gives the dataset that the same rows give."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

import data_pipelines
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError

MINUTES = pd.date_range("2024-06-04", periods=1440, freq="min")
BEATS = 60.0 + np.arange(1440) % 40


@pytest.fixture
def built(tmp_path):
  """Builds a dataset from a table and returns {(participant, date, channel): values}."""

  def build(frame, name="mine", **options):
    dataset = data_pipelines.from_frame(frame, tmp_path, name, **options)
    assert isinstance(dataset, Dataset)
    splits = [split for split in ("pretrain", "tune", "eval") if dataset.num_days(split)]
    days = [day for split in splits for day in dataset.days(split)]
    return {
      (day["participant"].decode(), day["date"].decode(), channel): values
      for day in days
      for channel, values in zip(dataset.schema.names, day["values"].T, strict=True)
    }

  return build


WIDE = pd.DataFrame({"participant": "kim", "time": MINUTES, "heart_rate": BEATS})
TABLES = {
  "wide": WIDE,
  "long": pd.DataFrame({"participant": "kim", "time": MINUTES, "channel": "heart_rate", "value": BEATS}),
  "arrow": pa.Table.from_pandas(WIDE),
  "index": WIDE.set_index(["participant", "time"]),
  "xarray": xr.DataArray(BEATS[None], [("participant", ["kim"]), ("time", MINUTES)], name="heart_rate").to_dataset(),
  "long xarray": xr.DataArray(
    BEATS[None, None],
    {"participant": ["kim"], "channel": ["heart_rate"], "time": MINUTES},
    ("participant", "channel", "time"),
  ),
  "shuffled": WIDE.sample(frac=1, random_state=0),
}


@pytest.mark.parametrize("kind", TABLES)
def test_every_kind_of_table_gives_the_same_days(built, kind):
  days = built(TABLES[kind])
  assert list(days) == [("kim", "2024-06-04", "heart_rate")]
  assert np.array_equal(days["kim", "2024-06-04", "heart_rate"], BEATS)


def test_a_column_with_a_zone_is_on_its_wall_clock(built):
  zoned = pd.DataFrame({"heart_rate": BEATS}, index=MINUTES.tz_localize("Europe/Berlin"))
  days = built(zoned, participant="kim")
  assert np.array_equal(days["kim", "2024-06-04", "heart_rate"], BEATS)
  with pytest.raises(SchemaError, match="give the person's time zone"):
    built(WIDE.assign(time=MINUTES.tz_localize("UTC")), name="other")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Tokyo"])
def test_times_of_several_zones_in_one_column_are_each_on_their_own_wall_clock(built, zone):
  other = WIDE.assign(participant="lee", time=MINUTES.tz_localize(zone), heart_rate=BEATS + 1)
  third = WIDE.assign(participant="ann", time=MINUTES.tz_localize("America/New_York"), heart_rate=BEATS + 2)
  for order in ([WIDE, other, third], [third, other, WIDE]):
    mixed = pd.concat(order, ignore_index=True)
    assert mixed["time"].dtype == object
    days = built(mixed, name=f"mine{len(order[0])}{order[0]['participant'][0]}")
    assert {who for who, *_ in days} == {"kim", "lee", "ann"}
    for (who, date, _), values in days.items():
      assert date == "2024-06-04"
      np.testing.assert_array_equal(values, BEATS + ["kim", "lee", "ann"].index(who))


def test_units_labels_and_gaps(built, tmp_path, capsys):
  frame = WIDE.assign(glucose=99.0).astype({"participant": "category"})
  frame.loc[10:19, "glucose"] = np.nan
  days = built(frame, units={"glucose": "mg/dL"}, labels=pd.DataFrame({"age": [41], "participant": ["kim"]}))
  glucose = days["kim", "2024-06-04", "glucose"]
  assert np.flatnonzero(np.isnan(glucose)).tolist() == list(range(10, 20))
  assert glucose[0] == pytest.approx(99 / 18.016)
  assert pq.read_table(Dataset.open(tmp_path, "mine").path / "participants.parquet").to_pylist()[0]["age"] == 41
  assert "account of 1 person: 2,870 rows read, 2,870 kept" in capsys.readouterr().out


def test_the_same_table_is_built_once_and_another_is_refused(built, capsys):
  built(WIDE)
  built(WIDE)
  assert "already built" in capsys.readouterr().out
  with pytest.raises(data_pipelines.DatasetError, match="already built from"):
    built(WIDE.assign(heart_rate=BEATS + 1))


@pytest.mark.parametrize(
  ("frame", "options", "message"),
  [
    (WIDE.drop(columns="participant"), {}, "has no column participant"),
    (WIDE, {"participant": "sam"}, "has a column participant"),
    (WIDE.drop(columns="time"), {}, "has the columns participant, heart_rate, expected time"),
    (WIDE.drop(columns="heart_rate"), {}, "has the columns participant, time, expected time"),
    (WIDE, {"units": {"pulse": "bpm"}}, "units has 'pulse'"),
    (WIDE, {"units": {"heart_rate"}}, "units: is a set, expected"),
    (WIDE.assign(heart_rate=["fast", 1] * 720), {}, "no table of columns of one type each"),
    (WIDE.rename(columns={"heart_rate": 7}), {}, "frame: has a column 7, expected names"),
    ([1, 2], {}, "frame: is list"),
    (WIDE, {"labels": {"kim": 1}}, "labels: is dict"),
    (WIDE, {"timezone": "Berlin"}, "not an IANA time zone"),
    (WIDE.assign(time="noon"), {}, "^frame[ :]"),
    (
      WIDE,
      {"labels": pd.DataFrame({"participant": ["kim", "kim"], "age": [1, 2]})},
      "^labels row 3: participant 'kim'",
    ),
  ],
)
def test_what_cannot_be_used_is_one_line(built, frame, options, message):
  with pytest.raises(SchemaError, match=message) as error:
    built(frame, **options)
  assert "\n" not in str(error.value)
