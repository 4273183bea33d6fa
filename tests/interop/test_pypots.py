"""PyPOTS's arrays both ways."""

import jax
import numpy as np
import pytest

from aim.interop import pypots
from data_pipelines.errors import SchemaError
from data_pipelines.npz import read_days
from tests import tiny
from tests.test_sklearn import SCHEMA, masked, model_of


def test_arrays_go_both_ways(tmp_path):
  days = tiny.arrays()["values"]
  for source in (days, read_days(tiny.write_npz(tmp_path / "days.npz"))):
    data = pypots.to_pypots(source)
    np.testing.assert_array_equal(data["X"], days)
    np.testing.assert_array_equal(pypots.from_pypots(data), days)
  np.testing.assert_array_equal(pypots.from_pypots(days[:, None]), days, "some of its models return samples")
  for wrong in ({"x": days}, {"X": days[0]}):
    with pytest.raises(SchemaError, match=r"^PyPOTS: X has shape .*, expected \[days, steps, channels\]$"):
      pypots.from_pypots(wrong)


def test_a_model_imputes_its_dicts():
  model, days = model_of(SCHEMA, 120, jax.local_devices()[:1]), tiny.arrays()["values"]
  np.testing.assert_array_equal(pypots.impute(model, {"X": days})["imputation"], model.impute(days))


def test_masks_are_not_lost():
  model, lost = model_of(SCHEMA, 120, jax.local_devices()[:1]), masked(tiny.arrays()["values"])
  for call in (lambda: pypots.to_pypots(lost), lambda: pypots.impute(model, {"X": lost})):
    with pytest.raises(SchemaError, match="values are a masked array, expected NaN for missing"):
      call()
