"""Reads people's readings from the groups of a spool in order of time, as the grid needs them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool

from data_pipelines.channels import units
from data_pipelines.ingest.gridding.columns import EARLIEST, ReadingColumns
from data_pipelines.ingest.gridding.monthly_grid import device_order
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.gridding.spool_group import SpoolGroup
from data_pipelines.ingest.reading.clocks import DAY
from data_pipelines.ingest.reading.readings import ENTERED_BY_HAND

ROWS_AT_ONCE = 2**21  # readings; people with fewer are read together
_HALF_MONTH = 15 * DAY
# Readings before or after these times cannot be true. They are read in one part, however far apart they are.
_EARLIEST, _LATEST = EARLIEST, 4_102_444_800_000  # 2000-01-01 and 2100-01-01
_COLUMNS = ("person", "series", "start", "end", "value", "offset", "file")


class SpoolReader:
  """Reads some people's readings, in the signals and units of a recipe.

  Attributes:
    devices: names of the devices, most trusted first.
    files: names of the files with readings, sorted, as messages name them.
    left_out: number of readings per person, so far, of signals that the recipe does not have.
    by_another: number of readings per person, so far, of signals that the recipe has of other devices only.
    typed_in: number of the others per person, so far, that were entered by hand and do not count.
  """

  def __init__(self, groups: Sequence[SpoolGroup], people: Sequence[str], recipe: Recipe, trusted: Sequence[str]):
    """Prepares to read.

    Args:
      groups: those that have readings of the people, in order.
      people: their names.
      recipe: signals, and whether what was typed in counts.
      trusted: device names, most trusted first.
    """
    self._groups, self._people = groups, people
    # Numbers of a group become numbers of the reader; those of series and files count on from group to group.
    numbers = {name: n for n, name in enumerate(people)}
    self._person_of = [np.array([numbers.get(name, -1) for name in group.people], np.int32) for group in groups]
    self._first_series = [0, *itertools.accumulate(len(group.series) for group in groups)]
    self._first_file = [0, *itertools.accumulate(len(group.files) for group in groups)]
    self._series = [key for group in groups for key in group.series]
    self._rows = dict.fromkeys(people, 0)
    for group in groups:
      for name, rows in zip(group.people, group.rows, strict=True):
        if name in self._rows:
          self._rows[name] += rows
    self.devices = device_order(trusted, {key.device for key in self._series})
    device = {name: n for n, name in enumerate(self.devices)}
    places = [recipe.place_of(key.signal, key.device) for key in self._series]
    self._signal = np.array([-1 if place is None else place for place in places], np.int32)
    self._signals = recipe.signals
    self._device = np.array([device[key.device] for key in self._series], np.int32)
    self._wall = np.array([key.clock == "wall" for key in self._series])
    named = {signal.source for signal in recipe.signals}
    self._by_another = np.array([key.signal in named for key in self._series], bool) & (self._signal < 0)
    typed_in = np.array([key.device == ENTERED_BY_HAND for key in self._series], bool)
    self._typed_in = typed_in & (not recipe.entered_by_hand)
    names = [name for group in groups for name in group.files]
    self.files = sorted({*names})
    self._file = np.searchsorted(self.files, names).astype(np.int32)
    self.left_out: dict[str, int] = {}
    self.by_another: dict[str, int] = {}
    self.typed_in: dict[str, int] = {}

  def people(self) -> Iterator[tuple[str, Iterator[ReadingColumns]]]:
    """Yields each person's name and readings, in parts in order of time. People with few readings are read together."""
    if sum(self._rows.values()) > ROWS_AT_ONCE:
      for n, name in enumerate(self._people):
        yield name, self._read_by_time(n)
      return
    rows = self._read([self._own(g, range(len(self._people))) for g in range(len(self._groups))])
    order = np.argsort(rows["person"], kind="stable")
    rows = {name: column[order] for name, column in rows.items()}
    for n, name in enumerate(self._people):
      own = slice(*np.searchsorted(rows["person"], [n, n + 1]))
      yield name, iter([self._converted({key: column[own] for key, column in rows.items()}, name)])

  def _own(self, g: int, people: Sequence[int]) -> Bool[np.ndarray, "r"]:
    """True for the row groups of a group that may have readings of some people."""
    numbers = np.flatnonzero(np.isin(self._person_of[g], people))
    first, last = self._groups[g].row_groups[:, 2:4].T
    return np.searchsorted(numbers, last, side="right") > np.searchsorted(numbers, first)

  def _read_by_time(self, person: int) -> Iterator[ReadingColumns]:
    """Yields the readings that start within half a month at a time, so that not all of them need to fit in memory."""
    own = [self._own(g, [person]) for g in range(len(self._groups))]
    firsts, lasts = ([group.row_groups[:, column] for group in self._groups] for column in (4, 5))
    starts = np.concatenate([first[mine] for first, mine in zip(firsts, own, strict=True)])
    edge: int | None = int(starts.min()) if len(starts) else None
    while edge is not None:
      end = _EARLIEST - 1 if edge < _EARLIEST else edge + _HALF_MONTH - 1 if edge < _LATEST else 2**63 - 1
      rows = self._read(
        [mine & (first <= end) & (last >= edge) for first, last, mine in zip(firsts, lasts, own, strict=True)]
      )
      mine = rows["person"] == person
      inside = mine & (rows["start"] >= edge) & (rows["start"] <= end)
      if inside.any():
        yield self._converted({name: column[inside] for name, column in rows.items()}, self._people[person])
      later = np.append(rows["start"][mine & (rows["start"] > end)], starts[starts > end])
      edge = int(later.min()) if len(later) else None

  def _read(self, selected: Sequence[Bool[np.ndarray, "r"]]) -> dict[str, np.ndarray]:
    """The columns of the selected row groups of each group, without other people's readings."""
    blocks = []
    for g, (group, wanted) in enumerate(zip(self._groups, selected, strict=True)):
      part, number = group.row_groups[wanted][:, :2].T
      for n in np.unique(part):
        with pq.ParquetFile(group.parts[n], memory_map=True) as file:
          table = file.read_row_groups(number[part == n].tolist())
        blocks.append(self._numbered(g, table))
    if not blocks:
      return {name: np.empty(0, np.int64) for name in _COLUMNS}
    return {name: np.concatenate([block[name] for block in blocks]) for name in _COLUMNS}

  def _numbered(self, g: int, table: pa.Table) -> dict[str, np.ndarray]:
    """The people's rows of a table of a group, with the reader's numbers."""
    columns = {name: table.column(name).to_numpy() for name in _COLUMNS}
    columns["person"] = self._person_of[g][columns["person"]]
    columns["series"] = columns["series"].astype(np.int64) + self._first_series[g]
    columns["file"] = columns["file"].astype(np.int64) + self._first_file[g]
    own = columns["person"] >= 0
    return {name: column[own] for name, column in columns.items()}

  def _converted(self, rows: Mapping[str, np.ndarray], person: str) -> ReadingColumns:
    """A person's readings in the units of the recipe, without the signals that the recipe does not have."""
    series, value = rows["series"], rows["value"].astype(np.float64)
    for number in np.unique(series):
      of_series, key = series == number, self._series[number]
      if self._signal[number] >= 0:
        signal = self._signals[self._signal[number]]
        first = int(of_series.argmax())
        moment = np.datetime64(int(rows["start"][first]), "ms").astype("datetime64[s]")
        clock = "" if self._wall[number] else " UTC"
        where = f"{self.files[self._file[rows['file'][first]]]}: {key.signal!r} of {person!r} at {moment}{clock}"
        converted = units.convert(value[of_series], key.unit, signal.unit, where)
        value[of_series] = 1 if signal.present else converted
    in_recipe, typed_in = self._signal[series] >= 0, self._typed_in[series]
    by_another = self._by_another[series]
    self.left_out[person] = self.left_out.get(person, 0) + int((~in_recipe & ~by_another).sum())
    self.by_another[person] = self.by_another.get(person, 0) + int(by_another.sum())
    self.typed_in[person] = self.typed_in.get(person, 0) + int((in_recipe & typed_in).sum())
    return ReadingColumns(
      signal=self._signal[series],
      device=self._device[series],
      start=rows["start"],
      end=rows["end"],
      value=value,
      offset=rows["offset"].astype(np.int16),
      wall=self._wall[series],
      file=self._file[rows["file"]],
    ).take(in_recipe & ~typed_in)
