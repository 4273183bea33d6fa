"""Whose the files of an input are: what the user says decides, or else what the exports say (see owners.py)."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Collection, Iterable, Sequence

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.owners import Owner, are_told_apart, common_name, contradict, join, name_of

ONE, FOLDER, FILE, ACCOUNT = "one", "folder", "file", "account"  # what makes a person
_SHOWN = 3  # exports in a message


@dataclasses.dataclass(frozen=True)
class Unit:
  """Files of one place on disk (the input, or a zip in it) that one importer reads and that are of one owner."""

  kind: str
  within: str  # the place relative to the input, "" for the input itself
  place: Export
  owner: Owner
  names: tuple[str, ...]

  @property
  def path(self) -> str:
    """Path of the files, relative to the input."""
    return "/".join(part for part in (self.within, self.owner.place) if part)

  @property
  def name(self) -> str:
    """The name of the folder or file: the person's, if there is only this one."""
    folder, _, rest = (self.within or self.owner.place).partition("/")
    if rest or (folder and not self.within and folder not in self.names):
      return name_of(folder)
    return name_of(pathlib.PurePath(folder).stem if folder and not self.within else self.place.participant)


def by_rule(units: Sequence[Unit], person_by: str, path: str) -> list[tuple[str, Unit]]:
  """The person of each unit, by what the user says; units of which files are of several are divided.

  A person without a name is named after the input.
  """
  if person_by == ONE:
    return [("", unit) for unit in units]
  if person_by == ACCOUNT:
    return _by_account(units, path)
  people = [(_folder(unit, unit.names[0]), unit) for unit in units if unit.owner.in_rows]  # rows count more
  paths: dict[str, str] = {}  # of files, by the names that they give
  for unit in (unit for unit in units if not unit.owner.in_rows):
    names: dict[str, list[str]] = {}
    for name in unit.names:
      who = _folder(unit, name) if person_by == FOLDER else _stem(unit, name)
      names.setdefault(who, []).append(name)
      file = unit.within or name
      other = paths.setdefault(who, file)
      if person_by == FILE and file != other and name_of(pathlib.PurePath(file).stem) == pathlib.PurePath(file).stem:
        raise SchemaError(
          f"{path}: {other} and {file} would both be {who!r} by --person_by=file; rename one, or give "
          "--person_by=folder or --one_person"
        )
    people += [(who, dataclasses.replace(unit, names=tuple(own))) for who, own in names.items() if who]
  if not people:
    raise SchemaError(
      f"{path}: no folder or zip directly in it holds a file that is read, as --person_by=folder expects"
    )
  _check_copies({who for who, _ in people}, path)
  return people


def _folder(unit: Unit, name: str) -> str:
  """The folder or zip directly in the input that a file is in; "" if there is none."""
  top, _, rest = f"{unit.within}/{name}".lstrip("/").partition("/")
  if not rest and not unit.within:
    return ""
  return name_of(pathlib.PurePath(top).stem if top == unit.within else top)


def _stem(unit: Unit, name: str) -> str:
  return name_of(pathlib.PurePath(unit.within or name).stem)


def _check_copies(names: Collection[str], path: str) -> None:
  """Refuses a person whose name is another's with the number that a browser gives to a second download."""
  for name in sorted(names):
    match = re.fullmatch(r"(.*?) ?\(\d+\)", name)
    if match and match[1] in names:
      raise SchemaError(f"{path}: {match[1]!r} and {name!r} may be one person's; rename one, or give --one_person")


def _by_account(units: Sequence[Unit], path: str) -> list[tuple[str, Unit]]:
  kinds = [*dict.fromkeys(unit.kind for unit in units)]
  if len(kinds) > 1:
    raise SchemaError(
      f"{path}: holds exports of {' and '.join(kinds)}, which have no accounts in common, as --person_by=account "
      "expects; give --person_by=folder or --one_person"
    )
  for unit in units:
    owner = unit.owner
    if not (owner.in_rows or owner.account or owner.profile or owner.subject or owner.marks):
      raise SchemaError(
        f"{path}: {unit.path or unit.names[0]} does not name an account, as --person_by=account expects"
      )
  owners = [unit.owner for unit in units]
  groups = join([dataclasses.replace(owner, account=_account(owner)) for owner in owners])
  _check_contradictions([[owners[n] for n in group] for group in groups], path)
  return _named(units, groups)


def _account(owner: Owner) -> str:
  """The account, or else what the exports name instead."""
  named = {"profile": owner.profile, "subject": owner.subject}
  return owner.account or next((f"{fact} {name}" for fact, name in named.items() if name), "")


def _check_contradictions(groups: Iterable[Sequence[Owner]], path: str) -> None:
  """Refuses groups of one person whose exports name two."""
  if any(map(contradict, groups)):
    raise SchemaError(
      f"{path}: exports share a device but name different people; give --one_person, --person_by=folder or "
      "--person_by=file"
    )


def by_evidence(units: Sequence[Unit], path: str) -> list[tuple[str, Unit]]:
  """The person of each unit, by what the exports say.

  Raises:
    SchemaError: they do not say enough.
  """
  others = [unit for unit in units if not unit.owner.in_rows]
  _check_nameless(units, path)
  groups = join([unit.owner for unit in others])
  owners = [[others[n].owner for n in group] for group in groups]
  if len(groups) > 1 and not are_told_apart(owners):
    _check_subjects([[others[n] for n in group] for group in groups], path)
    places = sorted({others[group[0]].path or others[group[0]].names[0] for group in groups})
    shown = ", ".join(places[:_SHOWN]) + ", ..." * (len(places) > _SHOWN)
    raise SchemaError(
      f"{path}: holds {len(groups)} exports ({shown}) that do not say whether they are one person's; give --one_person "
      "if they are, or else --person_by=folder or --person_by=file"
    )
  _check_contradictions(owners, path)
  return [("" if len(units) == 1 else unit.name, unit) for unit in units if unit.owner.in_rows] + _named(others, groups)


def _check_nameless(units: Sequence[Unit], path: str) -> None:
  """Refuses files of a kind whose rows may name people, and do in other files of that kind but not in these."""
  for table in (unit for unit in units if unit.owner.in_rows):
    for unit in units:
      if unit.kind == table.kind and unit.owner == Owner(place=unit.owner.place):
        place, other = (u.path or u.names[0] for u in (unit, table))
        raise SchemaError(
          f"{path}: {place} does not say whose it is, and {other} has a name in each row; give --person_by=folder or "
          "--person_by=file for files without names"
        )


def _check_subjects(groups: Iterable[Sequence[Unit]], path: str) -> None:
  """Refuses files in two places that give one name to their subjects, who may be one person or two."""
  first: dict[str, Unit] = {}
  for unit in (group[0] for group in groups):
    other = first.setdefault(unit.owner.subject, unit)
    if unit.owner.subject and other is not unit:
      places = " and ".join(u.path or u.names[0] for u in (other, unit))
      raise SchemaError(
        f"{path}: {places} both name the subject {unit.owner.subject!r} and do not say whether this is one person; "
        "give --person_by=account if a name is one person everywhere, or else --person_by=folder or --person_by=file"
      )


def _named(units: Sequence[Unit], groups: Sequence[Sequence[int]]) -> list[tuple[str, Unit]]:
  """The units of each group with the person's name."""
  people: list[tuple[str, Unit]] = []
  taken: set[str] = set()
  for number, group in enumerate(groups, start=1):
    if len(groups) == 1:
      name = common_name([units[n].name for n in group], "")
      name = "" if len(group) == 1 and not units[group[0]].within else name
    else:
      name = common_name([units[n].name for n in group], units[group[0]].name)
      name = name if name not in taken else f"{name}-{number}"
    subjects = {units[n].owner.subject for n in group}
    name = subjects.pop() or name if len(subjects) == 1 else name
    taken.add(name)
    people += [(name, units[n]) for n in group]
  return people


def listed(people: Sequence[tuple[str, Unit]]) -> dict[str, list[str]]:
  """The folders, zips or files of each person whom they do not name; nothing if there is only one of one person."""
  found: dict[str, list[str]] = {}
  for who, unit in people:
    if not unit.owner.in_rows and unit.owner.subject != who:
      found.setdefault(who, []).append(unit.path or unit.names[0])
  if len(found) == 1 and all(len(paths) == 1 for paths in found.values()):
    return {}
  return {who: list(dict.fromkeys(paths)) for who, paths in found.items()}
