"""The account of an import that closes: of each person's rows, how many were read, kept, and dropped and why."""

from __future__ import annotations

import collections
import csv
import io
from collections.abc import Callable, Iterator

from data_pipelines.ingest.reading.readings import Account

FEW = 20  # people whose rows are shown one by one
_WORST = 5


def renamed(account: Account, name: Callable[[str], str], where: Callable[[str], str]) -> Account:
  """The account under other names of people and places."""
  other = Account()
  for participant, rows in account.read.items():
    other.add(name(participant), rows)
  for (participant, why), rows in account.dropped.items():
    other.drop(name(participant), why, rows, where(account.example.get((participant, why), "")))
  return other


def table(account: Account) -> str:
  """account.csv: participant, what became of how many rows, and where the first of them is."""
  text = io.StringIO()
  rows = csv.writer(text, lineterminator="\n")
  rows.writerow(["participant", "rows", "outcome", "first"])
  for participant, read, dropped in _people(account):
    rows.writerow([participant, read, "read", ""])
    rows.writerow([participant, read - sum(dropped.values()), "kept", ""])
    for why, count in dropped.most_common():
      rows.writerow([participant, count, why, account.example.get((participant, why), "")])
  return text.getvalue()


def summary(account: Account) -> list[str]:
  """Lines for the screen: each person for few people, all together and the worst for many."""
  people = list(_people(account))
  dropped = sum((lost for _, _, lost in people), collections.Counter())
  lines = [f"account of {len(people):,} people: {_counts(sum(read for _, read, _ in people), dropped.total())}"]
  for why, count in dropped.most_common():
    first = next((where for key, where in account.example.items() if key[1] == why and where), "")
    lines.append(f"  {count:>12,}  {why}" + f" (first: {first})" * bool(first))
  shown = people
  if len(people) > FEW:
    shown = sorted(people, key=lambda row: -row[2].total() / max(row[1], 1))[:_WORST]
    lines.append(f"  the {_WORST} who lost most of {len(people):,}, all of them in account.csv:")
  if len(people) > 1:
    lines += [f"  {participant}: {_counts(read, lost.total())}" for participant, read, lost in shown]
  return lines


def _counts(read: int, dropped: int) -> str:
  share = 100 * dropped / max(read, 1)
  return f"{read:,} rows read, {read - dropped:,} kept, {dropped:,} dropped ({share:.2g} %)"


def _people(account: Account) -> Iterator[tuple[str, int, collections.Counter[str]]]:
  lost: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
  for (participant, why), rows in account.dropped.items():
    lost[participant][why] += rows
  for participant in sorted({*account.read, *lost}):
    yield participant, account.read[participant], lost[participant]
