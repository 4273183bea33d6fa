"""Grids everybody in a spool and stores their days."""

from __future__ import annotations

import hashlib
import pathlib
import zoneinfo
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from data_pipelines.ingest.gridding.channel_summary import ChannelTally
from data_pipelines.ingest.gridding.columns import ReadingColumns
from data_pipelines.ingest.gridding.day_store import DayStore
from data_pipelines.ingest.gridding.monthly_grid import Grid, device_order
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.gridding.spool import Spool
from data_pipelines.ingest.gridding.spool_reader import SpoolReader
from data_pipelines.ingest.reading.account import Account


def grid_spool(
  spool: Spool,
  trusted: Sequence[str],
  recipe: Recipe,
  zone_of: Callable[[str], zoneinfo.ZoneInfo | None],
  folder: pathlib.Path,
) -> DayStore:
  """Grids the readings of all people in a spool, and stores their days.

  People whose days are already in `folder`, from an interrupted import of the same readings with the same recipe and
  time zones, are not gridded again.

  Args:
    spool: the readings.
    trusted: device names, most trusted first.
    recipe: signals, rules and thresholds.
    zone_of: the time zone of a person, None if unknown.
    folder: the store is made in a folder within it.

  Returns:
    The store. Its summaries hold, per person, "account" (Account.to_json of the readings not used), "left_out" (the
    number of days left out because too much is missing), "missing" (Grid.missing) and "channels" (ChannelTally.rows).

  Raises:
    SchemaError: readings are in UTC, and their person has no time zone.
  """
  devices = device_order(trusted, {series.device for series in spool.series})
  basis = repr((recipe, [str(zone_of(name)) for name in spool.people], devices, spool.parts))
  store = DayStore(folder / f"days-{hashlib.blake2b(basis.encode(), digest_size=8).hexdigest()}", recipe.schema)
  reader = SpoolReader(spool, recipe, devices)
  grids: dict[str, Grid] = {}
  with tqdm(
    total=sum(spool.rows.values()), desc="gridding", unit=" readings", unit_scale=True, disable=None
  ) as progress:
    for participant, parts in reader.people():
      if participant in store:
        continue
      zone = zone_of(participant)
      grid = grids.setdefault(str(zone), Grid(recipe, zone, devices, reader.files))
      account, tally = Account(), ChannelTally(len(recipe.signals))
      store.add(participant, tally.watch(grid.days(_with_progress(parts, progress), account, participant)))
      account.drop(participant, "signal not in the recipe", reader.left_out.pop(participant, 0))
      account.drop(participant, "entered by hand (--entered_by_hand keeps it)", reader.typed_in.pop(participant, 0))
      summary = {
        "account": account.to_json(),
        "left_out": grid.left_out.pop(participant, 0),
        "missing": {minutes: list(days.items()) for minutes, days in grid.missing.pop(participant, {}).items()},
        "channels": tally.rows,
      }
      store.complete(participant, summary)
  return store


def _with_progress(parts: Iterator[ReadingColumns], progress: tqdm) -> Iterator[ReadingColumns]:
  for part in parts:
    yield part
    progress.update(len(part))


def full_account(spool: Spool, store: DayStore) -> Account:
  """The account of every row of the exports: those dropped while reading, and those dropped while gridding."""
  account = Account()
  account.merge(spool.account)
  for summary in store.summaries.values():
    account.merge(Account.from_json(summary["account"]))
  return account
