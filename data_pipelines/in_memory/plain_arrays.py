"""Arrays of numbers from what callers have, without a mask that would be lost on the way."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from data_pipelines.errors import SchemaError


def plain_array(values: Any, where: str, name: str = "values") -> np.ndarray:
  """Converts `values` by numpy.asarray; `where` and `name` stand in messages.

  Raises:
    SchemaError: NumPy cannot convert them, or would lose something.
  """
  check_unmasked(values, where, name)
  try:
    return np.asarray(values)
  except (TypeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise SchemaError(f"{where}: {name} are a {type(values).__name__} that is no array of numbers: {reason}") from None


def check_unmasked(values: Any, where: str, name: str) -> None:
  """Raises SchemaError for a masked array, or nested sequences with one, whose mask numpy.asarray would ignore."""
  if isinstance(values, np.ma.MaskedArray):
    raise SchemaError(f"{where}: {name} are a masked array, expected NaN for missing, as values.filled(numpy.nan) has")
  if _holds_masks(values):
    kind = type(values).__name__
    raise SchemaError(
      f"{where}: {name} are a {kind} of masked arrays, expected NaN for missing, as array.filled(numpy.nan) has"
    )


def _holds_masks(values: Any) -> bool:
  """True if nested sequences hold a masked array or numpy.ma.masked."""
  if isinstance(values, np.ma.MaskedArray):
    return True
  return isinstance(values, list | tuple | collections.deque) and any(map(_holds_masks, values))
