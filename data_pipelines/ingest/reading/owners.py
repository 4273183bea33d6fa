"""Whose exports are: what they say about their person, and which of them are of one person.

Two exports are of one person if they share an account or a mark, such as the serial number of a watch. They are of two
if they name different accounts, profiles or subjects. Where neither can be told, nobody guesses: the import asks.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Sequence

# The name of Google's archives. All parts of one have the same time: "takeout-20240131T120000Z-1-002 (1).zip".
_TAKEOUT = re.compile(r"(takeout-\d{8}T\d{6}Z)(-\d+)*( ?\(\d+\))?", re.IGNORECASE)
# The folder of an export, whose folders have names in the user's language; and names of folders within exports.
_EXPORT = re.compile(r"(.*/)?(google )?fit(bit)?", re.IGNORECASE)
_PART = re.compile(
  r"all data|all sessions|daily activity metrics|(heartrate|sleep|activity)(_[a-z]+)*(_\d+)?|app data|"
  r"(health detail|sport per minute merged) data.*",
  re.IGNORECASE,
)
_FACTS = "account", "profile", "subject"
_LEAST_NAME = 3  # letters that the names of a person's exports begin with, to be the person's name


@dataclasses.dataclass(frozen=True)
class Owner:
  """An export's information about the person to whom some of its files belong.

  Attributes:
    place: folder or file within the export; files of one place are of one person. "" is the whole export.
    account: identifies the account; "" if the files do not say. Two accounts are two people.
    profile: facts about the person, such as a name or a date of birth. Different facts are different people, but the
      same facts may be those of two.
    marks: what only one person has, such as the serial number of a device.
    subject: the name that the files give to their person, such as "1" in a study; two people may have it.
    in_rows: whether each row says whose it is, so that nothing has to be known of the export.
  """

  place: str = ""
  account: str = ""
  profile: str = ""
  marks: frozenset[str] = frozenset()
  subject: str = ""
  in_rows: bool = False


def loose_places(names: Sequence[str]) -> dict[str, str]:
  """The place of each file, for files of a kind that says nothing else.

  Several folders are a place each, unless they are the parts of which a maker's export consists. These are of one
  place, unless they hold files of the same names, but for digits.
  """
  prefix = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
  start = len(prefix) + 1 if prefix else 0
  tops: dict[str, list[str]] = {}
  for name in names:
    tops.setdefault(name[start:].partition("/")[0] if "/" in name[start:] else "", []).append(name)
  places = {name: f"{name[:start]}{top}".rstrip("/") for top, members in tops.items() for name in members}
  if not _EXPORT.fullmatch(prefix) and sum(bool(top) and not _PART.fullmatch(top) for top in tops) > 1:
    return places
  seen: set[str] = set()
  for top, members in tops.items():
    kinds = {re.sub(r"\d+", "#", name[start + len(top) :].lstrip("/")) for name in members}
    if kinds & seen:
      return places
    seen |= kinds
  return dict.fromkeys(names, prefix)


def takeout_marks(*texts: str) -> frozenset[str]:
  """The marks of the archives of Google Takeout that paths name; the parts of one archive share it."""
  return frozenset(match[1].lower() for text in texts for match in _TAKEOUT.finditer(text))


def join(owners: Sequence[Owner]) -> list[list[int]]:
  """The owners that are known to be one person, as lists of their indices, in order of the first."""
  parent = list(range(len(owners)))

  def root(n: int) -> int:
    while parent[n] != n:
      parent[n] = parent[parent[n]]
      n = parent[n]
    return n

  first: dict[str, int] = {}
  for n, owner in enumerate(owners):
    for mark in {*owner.marks, *([f"account {owner.account}"] if owner.account else [])}:
      parent[root(n)] = root(first.setdefault(mark, n))
  groups: dict[int, list[int]] = {}
  for n in range(len(owners)):
    groups.setdefault(root(n), []).append(n)
  return sorted(groups.values())


def are_told_apart(groups: Iterable[Sequence[Owner]]) -> bool:
  """True if groups of owners are known to be different people, and no group is of two."""
  for fact in _FACTS:
    facts = [{getattr(owner, fact) for owner in group} - {""} for group in groups]
    if all(len(found) == 1 for found in facts) and len(set.union(*facts)) == len(facts):
      return True
  return False


def contradict(group: Sequence[Owner]) -> bool:
  """True if owners that share a mark name different accounts, profiles or subjects."""
  return any(len({getattr(owner, fact) for owner in group} - {""}) > 1 for fact in _FACTS)


def name_of(place: str) -> str:
  """The person's name for a folder or a file's stem: without the number of a part of an archive of Takeout."""
  match = _TAKEOUT.fullmatch(place)
  return match[1] if match else place


def common_name(names: Sequence[str], otherwise: str) -> str:
  """The name of a person who has several exports: what their names have in common, or else `otherwise`."""
  distinct = sorted(set(names))
  if len(distinct) == 1:
    return distinct[0]
  first, last = distinct[0], distinct[-1]  # in order, so that all others begin as these two do
  length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
  common = re.sub(r"[\W_\d]+$", "", first[:length])
  return common if len(common) >= _LEAST_NAME else otherwise
