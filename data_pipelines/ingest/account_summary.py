"""Presents the account of an import: account.csv, and lines for the screen and the data card."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data_pipelines.ingest.reading.account import Account, ClockSpan
from data_pipelines.text_files import counted, csv_text, one_line, percentage

_FEW = 20  # up to this many people are shown one by one
_WORST = 5
_NAMED = 10  # damaged files that are shown one by one
_TYPES = 20  # of records that are not read, in one line
# What begins an outcome in account.csv that is none of the rows read.
NOT_READ, CLOCK, NOTE = "not read: ", "clock: ", "note: "


def rename_people(account: Account, name: Callable[[str], str], where: Callable[[str], str]) -> Account:
  """A copy of the account in which `name` replaces participants and `where` replaces the locations of rows."""
  renamed, who = Account(), lambda participant: name(participant) if participant else ""  # "" is nobody
  for participant, rows in account.read.items():
    renamed.add(who(participant), rows)
  for (participant, why), rows in account.dropped.items():
    renamed.drop(who(participant), why, rows, where(account.example.get((participant, why), "")))
  for (participant, why, file), (rows, place) in account.damage.items():
    key = who(participant), why, where(file)
    renamed.damage[key] = renamed.damage.get(key, (0,))[0] + rows, where(f"{file}{place}")
  for (participant, record_type), records in account.passed_over.items():
    renamed.pass_over(who(participant), record_type, records)
  for (participant, text), files in account.remarks.items():
    renamed.remark(who(participant), text, files)
  for (participant, text), (readings, place) in account.combined.items():
    renamed.combine(who(participant), text, readings, where(place))
  for (kind, why), (files, _) in account.unread_files.items():
    renamed.leave_file(f"*{pathlib.PurePath(kind).suffix}", why, "", files)  # a name may be a person's
  for (participant, clock), span in account.clocks.items():  # without times, because dates are moved
    renamed.add_span(who(participant), clock, ClockSpan(span.readings, span.signals, (0, None), (0, None)))
  return renamed


def to_csv(account: Account) -> str:
  """The text of account.csv.

  Its columns are participant, rows (a number), outcome ("read", "kept" or the reason for dropping) and first (the
  location of the first row dropped for this reason). Where the outcome begins with NOT_READ, the number is one of
  files or records that are not read; with NOTE, one of files that the note is true of, or of the readings that it
  speaks of; with CLOCK, one of readings.
  """
  lines = ([one_line(field) if isinstance(field, str) else field for field in line] for line in _lines(account))
  return csv_text(["participant", "rows", "outcome", "first"], lines)


def _lines(account: Account) -> Iterator[list[Any]]:
  damage: dict[tuple[str, str], list[tuple[int, str]]] = collections.defaultdict(list)
  for (participant, why, file), (rows, place) in account.damage.items():
    damage[participant, why].append((rows, f"{file}{place}"))
  for participant, read, dropped in _people(account):
    yield [participant, read, "read", ""]
    yield [participant, read - sum(dropped.values()), "kept", ""]
    whys = [*dropped, *(why for who, why in damage if who == participant and why not in dropped)]
    for why, count in ((why, dropped[why]) for why in sorted(whys, key=lambda why: -dropped[why])):
      for rows, place in damage[participant, why]:
        yield [participant, rows, why, place]
      if rest := count - sum(rows for rows, _ in damage[participant, why]):
        yield [participant, rest, why, account.example.get((participant, why), "")]
  for (participant, record_type), records in sorted(account.passed_over.items()):
    yield [participant, records, f"{NOT_READ}records of type {record_type}", ""]
  for (participant, text), files in sorted(account.remarks.items()):
    yield [participant, files, f"{NOTE}{text}", ""]
  for (participant, text), (readings, where) in sorted(account.combined.items()):
    yield [participant, readings, f"{NOTE}{text}", where]
  for (participant, clock), span in sorted(account.clocks.items()):
    yield [participant, span.readings, f"{CLOCK}{_span(clock, span)}", ""]
  for (kind, why), (files, first) in sorted(account.unread_files.items()):
    yield ["", files, f"{NOT_READ}files {kind} ({why})", first]


def summary_lines(account: Account) -> list[str]:
  """The totals, the reasons for dropping, and a line for each person, or for the worst few of many.

  What comes from files, such as names, cannot break a line or hide one.
  """
  return [one_line(line) for line in _summary(account)]


def _summary(account: Account) -> list[str]:
  everybody = list(_people(account))
  people = [person for person in everybody if person[0]]
  dropped = sum((reasons for _, _, reasons in everybody), collections.Counter())
  read = sum(read for _, read, _ in everybody)
  lines = [f"account of {counted(len(people), 'person')}: {_counts(read, dropped.total())}"]
  kinds = dict.fromkeys([why for why, _ in dropped.most_common()] + [why for _, why, _ in account.damage])
  for why in kinds:
    count = dropped[why]
    files = [(rows, f"{file}{place}") for (_, kind, file), (rows, place) in account.damage.items() if kind == why]
    examples = [where for key, where in account.example.items() if key[1] == why and where]
    first = next(iter([*examples, *(place for _, place in files)]), "")
    lines.append(f"  {count:>12,}  {why}" + f" (first: {first})" * bool(first and len(files) < 2))
    lines += [f"  {rows:>12,}    {place}" for rows, place in files[:_NAMED]] * (len(files) > 1)
    if len(files) > _NAMED:
      lines.append(f"                  and {counted(len(files) - _NAMED, 'file')} more, in account.csv")
  shown = people
  if len(people) > _FEW:
    shown = sorted(people, key=lambda person: -person[2].total() / max(person[1], 1))[:_WORST]
    lines.append(f"  the {_WORST} of {len(people):,} people who lost the largest share (account.csv lists everybody):")
  if len(people) > 1:
    lines += [f"  {participant}: {_counts(read, reasons.total())}" for participant, read, reasons in shown]
  remarks: collections.Counter[str] = collections.Counter()
  for (_, text), count in account.remarks.items():
    remarks[text] += count
  lines += [f"{NOTE}{counted(count, 'file')}: {text}" for text, count in remarks.items()]
  together, spans = Account(), Account()
  for (_, text), found in account.combined.items():
    together.combine("", text, *found)
  lines += [
    f"{NOTE}{readings:,} {text}" + f" (first: {where})" * bool(where)
    for (_, text), (readings, where) in together.combined.items()
  ]
  for (_, clock), span in account.clocks.items():
    spans.add_span("", clock, span)
  lines += [f"{CLOCK}{_span(clock, span)}" for (_, clock), span in spans.clocks.items()]
  lines += _unread_files(account)
  if account.passed_over:
    records: collections.Counter[str] = collections.Counter()
    for (_, record_type), count in account.passed_over.items():
      records[record_type] += count
    named = [f"{what} {n:,}" for what, n in records.most_common(_TYPES)]
    more = f" and {counted(len(records) - _TYPES, 'kind')} more, in account.csv" * (len(records) > _TYPES)
    lines.append("record types not read: " + ", ".join(named) + more)
  return lines


def _span(clock: str, span: ClockSpan) -> str:
  """A clock, the signals on it, and when the first and the last reading start."""
  text = f"{', '.join(span.signals)}: {clock}"
  return text + f"; first {_moment(span.first)}, last {_moment(span.last)}" * (span.first[0] > 0)


def _moment(moment: tuple[int, int | None]) -> str:
  wall, utc = ("" if ms is None else str(np.datetime64(ms, "ms").astype("datetime64[m]")) for ms in moment)
  return f"{wall.replace('T', ' ')} local" + f" = {utc.replace('T', ' ')} UTC" * bool(utc)


def _unread_files(account: Account) -> Iterator[str]:
  """A line on the files that are not read, by reason and kind, the most frequent first."""
  if not account.unread_files:
    return
  kinds: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
  for (kind, why), (files, first) in account.unread_files.items():
    kinds[why].append((files, kind if files > 1 or not first else first))
  total = sum(files for files, _ in account.unread_files.values())
  yield f"{NOT_READ}{counted(total, 'file')} of {counted(len(account.unread_files), 'kind')}"
  for why, found in sorted(kinds.items(), key=lambda reason: -sum(files for files, _ in reason[1])):
    named = [f"{kind} {files:,}" if files > 1 else kind for files, kind in sorted(found, reverse=True)[:_NAMED]]
    more = f", {counted(len(found) - _NAMED, 'kind')} more in account.csv" * (len(found) > _NAMED)
    yield f"  {sum(files for files, _ in found):>12,}  {why}: {', '.join(named)}{more}"


def _counts(read: int, dropped: int) -> str:
  share = 100 * dropped / max(read, 1)
  return f"{counted(read, 'row')} read, {read - dropped:,} kept, {dropped:,} dropped ({percentage(share)})"


def _people(account: Account) -> Iterator[tuple[str, int, collections.Counter[str]]]:
  """Each participant, the number of their rows read, and the number of their rows dropped by reason."""
  dropped: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
  for (participant, why), rows in account.dropped.items():
    dropped[participant][why] += rows
  for participant in sorted({*account.read, *dropped}):
    yield participant, account.read[participant], dropped[participant]
