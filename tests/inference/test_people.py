"""Whose the days are: what impute() and reconstruct() refuse, whatever the model makes of it."""

import jaxtyping
import numpy as np
import pytest

from data_pipelines.context.profile import Profile
from data_pipelines.errors import SchemaError
from tests.report import my_days

SHAPE = (3, 24, 3)
FULL = np.ones(SHAPE, np.float32)


@pytest.fixture(scope="module")
def model():
  return my_days.model()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"people": ["a"]}, r"people have shape \(1,\), expected one for each of 3 days"),
    ({"people": ["a", "a", None]}, "people: row 2 is 'None', which says that it is missing"),
    ({"people": np.ma.array([1, 2, 3], mask=[0, 1, 0])}, "people are a masked array"),
    ({"people": [1, 2, 3], "dates": np.ma.array([1, 2, 3], mask=[0, 1, 0])}, "dates are a masked array"),
    ({"people": [1, 2, 3], "dates": [1]}, r"dates have shape \(1,\), expected one for each of 3 days"),
    ({"dates": [1, 2, 3]}, "has dates without people, expected whose each day is, too"),
  ],
)
@pytest.mark.parametrize("context_days", [0, 2])
def test_people_are_checked_although_nothing_is_missing(model, monkeypatch, arguments, message, context_days):
  monkeypatch.setattr(type(model), "context_days", context_days)
  names = list(model.schema.names)
  for described in ({}, {"channels": names}, {"channels": names[::-1]}):
    with pytest.raises(SchemaError, match=rf"^impute: {message}[^\n]*$"):
      model.impute(FULL, **arguments, **described)
  with pytest.raises(SchemaError, match=rf"^reconstruct: {message}[^\n]*$"):
    model.reconstruct(FULL, **arguments)


@pytest.mark.parametrize(
  ("profile", "message"),
  [
    (np.zeros(SHAPE), "profile is a ndarray, expected a Profile"),
    ((FULL, FULL), "profile is a tuple, expected a Profile"),
    (Profile(FULL[:2], np.ones(SHAPE, np.uint8)), r"mean is float32 \(2, 24, 3\), expected floats \(3, 24, 3\)"),
    (Profile(FULL, np.ones((3, 48, 3), np.uint8)), r"days is uint8 \(3, 48, 3\), expected whole numbers \(3, 24, 3\)"),
    (Profile(FULL[:, :, :1], np.ones((3, 24, 1), np.uint8)), r"mean is float32 \(3, 24, 1\)"),
    (Profile(FULL, FULL), "days is float32"),
    (Profile(None, None), "mean is a NoneType"),
  ],
)
def test_a_profile_of_other_days_is_refused(monkeypatch, model, profile, message):
  monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users have it
  with pytest.raises(SchemaError, match=rf"^reconstruct: (profile's )?{message}[^\n]*$"):
    model.reconstruct(FULL, profile=profile)


def test_people_or_a_profile(model):
  profile = Profile(FULL, np.ones(SHAPE, np.uint8))
  with pytest.raises(SchemaError, match=r"^reconstruct: has a profile and people or dates, expected one of them$"):
    model.reconstruct(FULL, people=[1, 2, 3], profile=profile)
