"""Every error that bad input can raise in data_pipelines.

    UserError
    └── SchemaError         a file or an array does not fit the schema or its own format
        ├── SplitError      people cannot be divided into pretrain, tune and eval as requested
        ├── DuplicateError  the same day occurs twice where that would leak test data into training
        └── DatasetError    a dataset is missing, or does not support the request
            └── CorruptError    a stored day cannot be read

The message is always a single line that names the file, key or row, what was found and what was expected. Programs
catch UserError, print that line without a traceback and exit with code 2.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np


class UserError(ValueError):
  """A problem the user can fix."""


class SchemaError(UserError):
  """A file or an array does not fit the schema or its own format."""


class SplitError(SchemaError):
  """People cannot be divided into pretrain, tune and eval as requested."""


class DuplicateError(SchemaError):
  """The same day occurs twice, which would let a model be scored on days it was trained on."""


class DatasetError(SchemaError):
  """A dataset is missing, or does not support the request."""


class CorruptError(DatasetError):
  """A stored day cannot be read; the message names its file and record."""


def is_whole(value: object) -> bool:
  """True if a value is a whole number, of Python or NumPy; True, False and spans of time are none."""
  return isinstance(value, numbers.Integral) and not isinstance(value, bool | np.timedelta64)


def is_number(value: object) -> bool:
  """True if a value is a number, of Python or NumPy; True, False and spans of time are none. NaN is one."""
  return isinstance(value, numbers.Real) and not isinstance(value, bool | np.timedelta64)


def first_line(error: object, most: int | None = None) -> str:
  """The first line of an error's text, or of its type's name where it has none; cut after `most` characters."""
  return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


def shown(entry: Any) -> str:
  """An entry in a message, of at most 40 characters."""
  return first_line(str(entry) if isinstance(entry, np.generic) else repr(entry), 40)
