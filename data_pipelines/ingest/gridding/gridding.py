"""From the spool of an import to days on disk, and what there is in them."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import zoneinfo
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from data_pipelines.ingest.gridding.columns import Columns
from data_pipelines.ingest.gridding.day_store import KeptDays
from data_pipelines.ingest.gridding.monthly_grid import Grid, GridDay, priority
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.gridding.spool import Spool, account_of, as_json, merge
from data_pipelines.ingest.gridding.spool_reader import Spooled
from data_pipelines.ingest.reading.readings import Account


def grid(
  spool: Spool,
  trusted: Sequence[str],
  recipe: Recipe,
  zone: Callable[[str], zoneinfo.ZoneInfo | None],
  folder: pathlib.Path,
) -> KeptDays:
  """The days of all people of a spool; those of an interrupted import, by the same recipe and zones, are not redone.

  Args:
    trusted: devices, the more trusted first.
    folder: where to put a folder of days.
  """
  devices = priority(trusted, {series.device for series in spool.series})
  same = repr((recipe, [str(zone(name)) for name in spool.people], devices, spool.parts))
  kept = KeptDays(folder / f"days-{hashlib.blake2b(same.encode(), digest_size=8).hexdigest()}", recipe.schema)
  spooled = Spooled(spool, recipe, devices)
  grids: dict[str, Grid] = {}
  with tqdm(
    total=sum(spool.rows.values()), desc="gridding", unit=" readings", unit_scale=True, disable=None
  ) as progress:
    for participant, parts in spooled.people():
      if participant in kept:
        continue
      steps = grids.setdefault(str(zone(participant)), Grid(recipe, zone(participant), devices))
      lost, seen = Account(), _Tally(len(recipe.signals))
      kept.add(participant, seen.watch(steps.days(_told(parts, progress), lost, participant)))
      lost.drop(participant, "signal not in the recipe", spooled.left_out.pop(participant, 0))
      told = {"account": as_json(lost), "left_out": steps.left_out.pop(participant, 0), "channels": seen.rows}
      kept.tell(participant, told)
  return kept


def _told(parts: Iterator[Columns], progress: tqdm) -> Iterator[Columns]:
  for part in parts:
    yield part
    progress.update(len(part))


class _Tally:
  """Count, sum, least and greatest of each channel, as days go by."""

  def __init__(self, channels: int):
    self._rows = np.stack(
      [np.zeros(channels), np.zeros(channels), np.full(channels, np.inf), np.full(channels, -np.inf)]
    )

  def watch(self, days: Iterator[GridDay]) -> Iterator[GridDay]:
    count, total, low, high = self._rows
    for day in days:
      count += (~np.isnan(day.values)).sum(0)
      total += np.nansum(day.values, 0, np.float64)
      low[:] = np.fmin(low, np.fmin.reduce(day.values, 0))
      high[:] = np.fmax(high, np.fmax.reduce(day.values, 0))
      yield day

  @property
  def rows(self) -> list[list[float]]:
    return self._rows.tolist()


def account(spool: Spool, kept: KeptDays) -> Account:
  """What became of every row, while reading and while gridding."""
  whole = Account()
  merge(whole, spool.account)
  for told in kept.told.values():
    merge(whole, account_of(told["account"]))
  return whole


@dataclasses.dataclass(frozen=True)
class Seen:
  """Values of the days, [channels] each."""

  count: np.ndarray
  total: np.ndarray
  low: np.ndarray
  high: np.ndarray
  steps: int

  @classmethod
  def of(cls, kept: KeptDays, recipe: Recipe) -> Seen:
    """Of all days that are kept."""
    told = np.array([person["channels"] for person in kept.told.values()]).reshape(-1, 4, len(recipe.signals))
    steps = recipe.schema.steps * sum(len(kept.dates(person)) for person in kept.people)
    low, high = told[:, 2].min(0, initial=np.inf), told[:, 3].max(0, initial=-np.inf)
    return cls(told[:, 0].sum(0).astype(np.int64), told[:, 1].sum(0), low, high, steps)

  def line(self, c: int, recipe: Recipe) -> str:
    """Of a channel, for people to read."""
    signal = recipe.signals[c]
    name = f"- {signal.name}" + f" ({signal.unit})" * bool(signal.unit)
    if not self.count[c]:
      return f"{name}: {signal.rule}, no value"
    share = 100 * self.count[c] / self.steps
    values = f"{self.low[c]:.4g} to {self.high[c]:.4g}, mean {self.total[c] / self.count[c]:.4g}"
    allowed = f", allowed {signal.low:g} to {signal.high:g}"
    return f"{name}: {signal.rule}, {share:.3g} % of steps, {values}{allowed}"
