"""Reads a spool person by person and in order of time, as the grid needs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64

from data_pipelines.channels import units
from data_pipelines.ingest.gridding.columns import EARLIEST, ReadingColumns
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.gridding.spool import Spool
from data_pipelines.ingest.reading.clocks import DAY
from data_pipelines.ingest.reading.readings import ENTERED_BY_HAND

ROWS_AT_ONCE = 2**21  # readings; people with fewer are read together
_HALF_MONTH = 15 * DAY
# Readings before or after these times cannot be true. They are read in one part, however far apart they are.
_EARLIEST, _LATEST = EARLIEST, 4_102_444_800_000  # 2000-01-01 and 2100-01-01


@dataclasses.dataclass(frozen=True)
class _RowGroups:
  """The Parquet row groups of all parts, with the ranges that their statistics give; [g] each."""

  part: Int64[np.ndarray, "g"]
  group: Int64[np.ndarray, "g"]
  first_person: Int64[np.ndarray, "g"]
  last_person: Int64[np.ndarray, "g"]
  first_start: Int64[np.ndarray, "g"]
  last_start: Int64[np.ndarray, "g"]


class SpoolReader:
  """Reads a finished Spool, in the signals and units of a recipe.

  Attributes:
    files: names of the files with readings, sorted, as messages name them.
    left_out: number of readings per person, so far, of signals that the recipe does not have.
    typed_in: number of the others per person, so far, that were entered by hand and do not count.
  """

  def __init__(self, spool: Spool, recipe: Recipe, devices: Sequence[str]):
    """Opens all parts. `devices` are the names that ReadingColumns.device indexes."""
    self._spool = spool
    self._files = [pq.ParquetFile(spool.folder / part, memory_map=True) for part in spool.parts]
    self._groups = _row_groups(self._files)
    signals = {signal.name: n for n, signal in enumerate(recipe.signals)}
    device = {name: n for n, name in enumerate(devices)}
    self._signal = np.array([signals.get(series.signal, -1) for series in spool.series], np.int16)
    self._device = np.array([device[series.device] for series in spool.series], np.int16)
    self._wall = np.array([series.clock == "wall" for series in spool.series])
    self._unit = {signal.name: signal.unit for signal in recipe.signals}
    typed_in = np.array([series.device == ENTERED_BY_HAND for series in spool.series], bool)
    self._typed_in = typed_in & (not recipe.entered_by_hand)
    self.files = sorted({*spool.file_names})
    self._file = np.searchsorted(self.files, spool.file_names).astype(np.int32)
    self.left_out: dict[str, int] = {}
    self.typed_in: dict[str, int] = {}

  def people(self) -> Iterator[tuple[str, Iterator[ReadingColumns]]]:
    """Yields each person's name and readings, in parts in order of time. People with few readings are read together."""
    batch: list[int] = []
    for person in sorted(self._spool.rows):
      if self._spool.rows[person] > ROWS_AT_ONCE:
        yield from self._read_together(batch)
        batch = []
        yield self._spool.people[person], self._read_by_time(person)
        continue
      batch.append(person)
      if sum(self._spool.rows[member] for member in batch) > ROWS_AT_ONCE:
        yield from self._read_together(batch)
        batch = []
    yield from self._read_together(batch)

  def _read_together(self, batch: Sequence[int]) -> Iterator[tuple[str, Iterator[ReadingColumns]]]:
    if not batch:
      return
    g = self._groups
    rows = self._read((g.first_person <= batch[-1]) & (g.last_person >= batch[0]))
    order = np.argsort(rows["person"], kind="stable")
    rows = {name: column[order] for name, column in rows.items()}
    for person in batch:
      own = slice(*np.searchsorted(rows["person"], [person, person + 1]))
      yield self._spool.people[person], iter([self._converted({n: column[own] for n, column in rows.items()}, person)])

  def _read_by_time(self, person: int) -> Iterator[ReadingColumns]:
    """Yields the readings that start within half a month at a time, so that not all of them need to fit in memory."""
    g = self._groups
    own_groups = (g.first_person <= person) & (g.last_person >= person)
    edge: int | None = int(g.first_start[own_groups].min()) if own_groups.any() else None
    while edge is not None:
      last = _EARLIEST - 1 if edge < _EARLIEST else edge + _HALF_MONTH - 1 if edge < _LATEST else 2**63 - 1
      rows = self._read(own_groups & (g.first_start <= last) & (g.last_start >= edge))
      own = rows["person"] == person
      inside = own & (rows["start"] >= edge) & (rows["start"] <= last)
      if inside.any():
        yield self._converted({name: column[inside] for name, column in rows.items()}, person)
      later = np.append(rows["start"][own & (rows["start"] > last)], g.first_start[own_groups & (g.first_start > last)])
      edge = int(later.min()) if len(later) else None

  def _read(self, selected: Bool[np.ndarray, "g"]) -> dict[str, np.ndarray]:
    """The columns of the selected row groups, one group after another."""
    tables = []
    for part in np.unique(self._groups.part[selected]):
      groups = self._groups.group[selected & (self._groups.part == part)]
      tables.append(self._files[part].read_row_groups(groups.tolist()))
    if not tables:
      return {name: np.empty(0, np.int64) for name in ("person", "series", "start", "end", "value", "offset", "file")}
    table = pa.concat_tables(tables)
    return {name: table.column(name).to_numpy() for name in table.column_names}

  def _converted(self, rows: Mapping[str, np.ndarray], person: int) -> ReadingColumns:
    """A person's readings in the units of the recipe, without the signals that the recipe does not have."""
    series, value = rows["series"].astype(np.int64), rows["value"].astype(np.float64)
    for number in np.unique(series):
      of_series, key = series == number, self._spool.series[number]
      if key.signal in self._unit:
        value[of_series] = units.convert(value[of_series], key.unit, self._unit[key.signal], f"signal {key.signal!r}")
    in_recipe, typed_in = self._signal[series] >= 0, self._typed_in[series]
    name = self._spool.people[person]
    self.left_out[name] = self.left_out.get(name, 0) + int((~in_recipe).sum())
    self.typed_in[name] = self.typed_in.get(name, 0) + int((in_recipe & typed_in).sum())
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


def _row_groups(files: Sequence[pq.ParquetFile]) -> _RowGroups:
  groups = []
  for part, file in enumerate(files):
    for group in range(file.metadata.num_row_groups):
      columns = file.metadata.row_group(group)
      person, start = columns.column(0).statistics, columns.column(2).statistics
      groups.append((part, group, person.min, person.max, start.min, start.max))
  return _RowGroups(*np.array(groups, np.int64).reshape(-1, 6).T)
