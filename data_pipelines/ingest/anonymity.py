"""Names and dates that do not tell who a person is, made from a secret key: the same key makes the same ones again."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import pathlib
import re

from data_pipelines.errors import SchemaError

_LEAST_KEY, _MOST_KEY = 16, 64  # bytes; BLAKE2b takes 64


@dataclasses.dataclass(frozen=True)
class Anonymity:
  """Keyed BLAKE2b (RFC 7693) of participants.

  Attributes:
    key: secret; who has it and a list of names can tell who is who.
    weeks: each person's dates are moved back by 1 to this many whole weeks, so that weekdays stay; 0: not at all.
  """

  key: bytes = dataclasses.field(repr=False)
  weeks: int = 52

  @classmethod
  def load(cls, path: str | os.PathLike, weeks: int) -> Anonymity:
    """From a file of 16 to 64 bytes, a line break at the end aside."""
    try:
      with pathlib.Path(path).open("rb") as file:
        key = file.read(_MOST_KEY + 3).rstrip(b"\r\n")
    except OSError as error:
      make = f"head -c 32 /dev/urandom > {path} makes a key"
      raise SchemaError(f"{path}: {(error.strerror or 'cannot be read').lower()}; {make}") from None
    if not _LEAST_KEY <= len(key) <= _MOST_KEY:
      raise SchemaError(f"{path}: a key of {len(key)} bytes or more, expected {_LEAST_KEY} to {_MOST_KEY}")
    return cls(key, weeks)

  def name(self, participant: str) -> str:
    """What stands for the participant in the dataset: 16 hexadecimal digits."""
    return self.digest("participant", participant).hex()

  def date(self, participant: str, date: str) -> str:
    """The ISO date, moved as all of this person's are."""
    if not self.weeks:
      return date
    back = 1 + int.from_bytes(self.digest("weeks", participant)) % self.weeks
    return (datetime.date.fromisoformat(date) - datetime.timedelta(weeks=back)).isoformat()

  def digest(self, purpose: str, text: str) -> bytes:
    """8 bytes that tell nothing of the text to who has not the key."""
    return hashlib.blake2b(text.encode(), key=self.key, person=purpose.encode(), digest_size=8).digest()

  @staticmethod
  def where(example: str) -> str:
    """Where a row is, without the file, whose name may be a person's."""
    found = re.search(r"row \d+$", example)
    return found.group() if found else ""
