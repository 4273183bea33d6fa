"""The error that every program reports as one line."""

from __future__ import annotations


class UserError(ValueError):
  """Something the user can mend; the message is one line that names the file, key or row. Programs print it alone."""
