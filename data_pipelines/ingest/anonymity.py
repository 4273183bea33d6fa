"""Replaces names and dates with ones that do not reveal who a person is, derived repeatably from a secret key."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import pathlib
import re

from data_pipelines.errors import SchemaError
from data_pipelines.text_files import check_regular

_LEAST_KEY, _MOST_KEY = 16, 64  # bytes; BLAKE2b accepts up to 64


@dataclasses.dataclass(frozen=True)
class Anonymity:
  """Pseudonyms and shifted dates by keyed BLAKE2b (RFC 7693).

  Attributes:
    key: the secret. Whoever has it and a list of names can tell who is who.
    weeks: each person's dates are moved back by 1 to this many whole weeks, which keeps weekdays. 0 keeps dates.
  """

  key: bytes = dataclasses.field(repr=False)
  weeks: int = 52

  @classmethod
  def load(cls, path: str | os.PathLike, weeks: int) -> Anonymity:
    """Reads the key from a file of 16 to 64 bytes; a line break at its end is ignored.

    Raises:
      SchemaError: the file cannot be read, or the key is too short or too long.
    """
    try:
      if os.path.exists(path):
        check_regular(path)
      with pathlib.Path(path).open("rb") as file:
        key = file.read(_MOST_KEY + 3).rstrip(b"\r\n")
    except OSError as error:
      hint = f"make a key with: head -c 32 /dev/urandom > {path}"
      raise SchemaError(f"{path}: {(error.strerror or 'cannot be read').lower()}; {hint}") from None
    if not _LEAST_KEY <= len(key) <= _MOST_KEY:
      length = f"{len(key)} bytes" if len(key) < _LEAST_KEY else f"more than {_MOST_KEY} bytes"
      raise SchemaError(f"{path}: the key has {length}, expected {_LEAST_KEY} to {_MOST_KEY}")
    return cls(key, weeks)

  def name(self, participant: str) -> str:
    """The participant's pseudonym in the dataset: 16 hexadecimal digits."""
    return self.digest("participant", participant).hex()

  def date(self, participant: str, date: str) -> str:
    """The ISO date, moved back by the same number of weeks as all dates of this person."""
    if not self.weeks:
      return date
    back = 1 + int.from_bytes(self.digest("weeks", participant)) % self.weeks
    return (datetime.date.fromisoformat(date) - datetime.timedelta(weeks=back)).isoformat()

  def digest(self, purpose: str, text: str) -> bytes:
    """8 bytes that reveal nothing about the text without the key. Different purposes give different bytes."""
    return hashlib.blake2b(text.encode(), key=self.key, person=purpose.encode(), digest_size=8).digest()

  @staticmethod
  def where(location: str) -> str:
    """The "row N" of a row's location, without the file, whose name may be a person's."""
    row = re.search(r"row \d+$", location)
    return row.group() if row else ""
