"""Arrays of numbers from what callers have, without a mask that would be lost on the way."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.errors import SchemaError, first_line, is_number


def plain_array(values: Any, where: str, name: str = "values") -> np.ndarray:
  """What numpy.asarray makes of `values`; `where` and `name` stand in messages.

  Raises:
    SchemaError: it cannot, or what it makes of them has lost something.
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
  """Whether nested sequences hold a masked array or numpy.ma.masked."""
  if isinstance(values, np.ma.MaskedArray):
    return True
  return isinstance(values, list | tuple | collections.deque) and any(map(_holds_masks, values))


def check_one_kind(entries: Sequence[Any], name: str) -> None:
  """Refuses a mixture of text, numbers and other types, of which 1 and "1" may be the same or not; `name` is theirs.

  Raises:
    SchemaError: an entry is of another kind than the first one.
  """
  kind = lambda entry: "number" if is_number(entry) else "text" if isinstance(entry, str | bytes) else type(entry)
  for row, entry in enumerate(entries):
    if kind(entry) != kind(entries[0]):
      both = f"row 0 is {shown(entries[0])} and row {row} is {shown(entry)}"
      raise SchemaError(f"{name}: {both}, expected all text or all numbers")


def shown(entry: Any) -> str:
  """An entry in a message, of at most 40 characters."""
  return first_line(str(entry) if isinstance(entry, np.generic) else repr(entry), 40)
