"""PyPOTS's arrays: a dict with "X" [days, steps, channels], NaN where missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from aim.inference.pretrained import Pretrained
from data_pipelines.errors import SchemaError
from data_pipelines.in_memory.plain_arrays import plain_array
from data_pipelines.npz import DayArrays


def to_pypots(days: DayArrays | Shaped[np.ndarray, "days steps channels"]) -> dict[str, np.ndarray]:
  """Days as PyPOTS's models take them, in the units that they have.

  Args:
    days: of data_pipelines.npz.read_days, or an array with NaN where missing.
  """
  return {"X": plain_array(days.values if isinstance(days, DayArrays) else days, "to_pypots").astype(np.float32)}


def from_pypots(data: Mapping[str, Any] | Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "days steps channels"]:
  """Days of a dict for PyPOTS, or of an array [days, steps, channels] that its `impute` returned.

  Raises:
    SchemaError: there is no array [days, steps, channels] under "X".
  """
  values = data.get("X") if isinstance(data, Mapping) else data
  days = plain_array(values, "PyPOTS", "X's values").astype(np.float32) if values is not None else np.zeros(0)
  if days.ndim == 4 and days.shape[1] == 1:  # some of its models return samples
    days = days[:, 0]
  if days.ndim != 3:
    raise SchemaError(f"PyPOTS: X has shape {days.shape}, expected [days, steps, channels]")
  return days


def impute(model: Pretrained, data: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Fills the days of a dict for PyPOTS, as its models' `predict` does.

  Args:
    model: of these channels, in its units.
    data: {"X": days}.

  Returns:
    {"imputation": the same days without NaN}.

  Raises:
    SchemaError: see from_pypots() and Pretrained.impute().
  """
  return {"imputation": model.impute(from_pypots(data))}
