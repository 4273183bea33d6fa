"""Whose days are and their dates: what counts as the same, in which order, and what is refused."""

import datetime

import numpy as np
import pandas as pd
import pytest

from data_pipelines.context.day_order import people_and_order
from data_pipelines.errors import SchemaError

DAYS = [datetime.date(2024, 1, day) for day in (9, 30, 10)] + [datetime.date(2023, 12, 31)]
TIMES = [datetime.datetime(day.year, day.month, day.day, 9 - row) for row, day in enumerate(DAYS)]
ISO = [str(day) for day in DAYS]


@pytest.mark.parametrize(
  "dates",
  [
    DAYS,
    TIMES,
    [time.astimezone(datetime.timezone(datetime.timedelta(hours=9))) for time in TIMES],
    ISO,
    [time.isoformat() for time in TIMES],
    [f"{time} +09:00".replace(" +", "+") for time in TIMES],
    [day.encode() for day in ISO],
    np.array(ISO),
    np.array(ISO, "S"),
    np.array(ISO, "datetime64[D]"),
    np.array(TIMES, "datetime64[ns]"),
    [np.datetime64(day) for day in ISO],
    np.datetime_as_string(np.array(TIMES, "datetime64[ns]")),
    pd.Series(DAYS),
    pd.to_datetime(ISO).tz_localize("Europe/Berlin"),
    [DAYS[0], TIMES[1], ISO[2], np.datetime64(ISO[3])],
    [9, 30, 10, -1],
    np.array([9, 30, 10, 2], np.uint8),
    [9.0, 30.0, 10.0, 2.0],
    [np.array(9), np.array(30), np.array(10), np.array(2)],
    [2**64 + 1, 2**64 + 3, 2**64 + 2, 5],
  ],
)
def test_dates_are_in_the_order_of_time(dates):
  assert people_and_order(4, ["a"] * 4, dates)[1].tolist() == [1, 3, 2, 0]


@pytest.mark.parametrize(
  ("dates", "message"),
  [
    (["2024-01-05", "2024-1-6"], "row 1 is '2024-1-6', expected a date, text that begins YYYY-MM-DD or a whole number"),
    (["05.01.2024", "06.01.2024"], "row 0 is '05.01.2024', expected a date"),
    (["1/5/2024", "1/6/2024"], "row 0 is '1/5/2024'"),
    (["20240105", "20240106"], "row 0 is '20240105'"),
    (["2024-02-29", "2024-02-30"], "row 1 is '2024-02-30'"),
    (["2024-01-05", "2024-01-06 or so"], "row 1 is '2024-01-06 or so'"),
    (["1", "2"], "row 0 is '1'"),
    ([1, "2024-01-06"], "row 0 is 1 and row 1 is '2024-01-06', expected all dates or all whole"),
    ([DAYS[0], 5], r"row 0 is datetime.date\(2024, 1, 9\) and row 1 is 5, expected all dates or all whole numbers"),
    ([1, 1.5], "row 1 is 1.5"),
    ([1, float("inf")], "row 1 is inf"),
    ([False, True], "row 0 is False"),
    (np.array([1, 2], "timedelta64[D]"), "row 0 is 1 days"),
    ([datetime.time(1), datetime.time(2)], r"row 0 is datetime.time\(1, 0\)"),
  ],
)
def test_other_dates_are_refused_with_their_row(dates, message):
  with pytest.raises(SchemaError, match=rf"^impute: dates: {message}[^\n]*$"):
    people_and_order(2, ["a", "b"], dates, "impute")


@pytest.mark.parametrize(
  ("dates", "shown"),
  [([1, 2, 1], "1"), (["2024-01-05", "2024-01-06", "2024-01-05T12:00"], "2024-01-05"), ([DAYS[0]] * 3, "2024-01-09")],
)
def test_a_date_occurs_once_per_person(dates, shown):
  message = f"^days: dates: rows 0 and 2 are both {shown} of person 'a', expected each date once per person$"
  with pytest.raises(SchemaError, match=message):
    people_and_order(3, ["a", "b", "a"], dates)
  people_and_order(3, ["a", "b", "c"], dates)


def test_people_are_the_same_where_they_are_equal():
  assert people_and_order(3, ["b", "a", b"b"])[0].tolist() == [1, 0, 1]
  assert people_and_order(3, [2**63 + 1, -1, 2**63])[0].tolist() == [2, 0, 1]  # which float64 cannot tell apart


@pytest.mark.parametrize(("people", "dates", "named"), [(["a"], None, "people"), (["a"] * 3, [1, 2], "dates")])
def test_one_person_and_date_for_each_day(people, dates, named):
  with pytest.raises(SchemaError, match=rf"^impute: {named} have shape \(\d,\), expected one for each of 3 days$"):
    people_and_order(3, people, dates, "impute")


@pytest.mark.parametrize(
  "missing", [None, float("nan"), pd.NaT, pd.NA, "", "NA", np.datetime64("NaT")], ids=lambda missing: repr(missing)
)
@pytest.mark.parametrize("name", ["people", "dates"])
def test_missing_people_and_dates_are_refused(name, missing):
  given = {"people": ["a"] * 3, "dates": [3, 4, 5]}
  for entries in ([given[name][0], missing, given[name][2]], pd.Series([*given[name][:1], missing, missing])):
    with pytest.raises(SchemaError, match=rf"^impute: {name}: row 1 is '.*', which says that it is missing[^\n]*$"):
      people_and_order(3, where="impute", **given | {name: entries})


@pytest.mark.parametrize(
  ("people", "message"),
  [
    ([{}, {}, {}], "people cannot be put in an order: unhashable type: 'dict'"),
    ([1j, 2j, 3j], "people cannot be put in an order: '<' not supported between"),
    ([1, 1, "1"], "people: row 0 is 1 and row 2 is '1', expected all text or all numbers"),
    ([{}, 1, 2], "people: row 0 is {} and row 1 is 1, expected all text or all numbers"),
    ([["a"], ["b", "c"], "d"], "people are no array: "),
    (["Kim", "kim", "sam"], "people: participant 'Kim' and 'kim' differ only in case"),
    (["kim ", "kim ", "kim "], "people: participant 'kim ' has spaces around it, expected none"),
    (["Zoe\u0308", "Zo\u00eb", "sam"], "people: participant .* differ only in "),
    ("abc", r"people have shape \(\), expected one for each of 3 days"),
  ],
)
def test_people_who_cannot_be_compared_are_one_line(people, message):
  with pytest.raises(SchemaError, match=rf"^impute: {message}[^\n]*$"):
    people_and_order(3, people, None, "impute")
