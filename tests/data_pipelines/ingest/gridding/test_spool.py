"""The spool and its reader give back what was read, in order and with bounded memory."""

import collections
import itertools
import tracemalloc

import numpy as np
import pytest

from data_pipelines.ingest.gridding import spool, spool_group, spool_reader
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import NO_OFFSET
from data_pipelines.ingest.reading.input_files import ExportSet
from data_pipelines.ingest.reading.readings import Readings, Stretch
from data_pipelines.ingest.reading.signals import Signal


class MadeUp:
  """An importer of made-up readings of three people and two devices, in no particular order."""

  signals = (Signal("heart_rate", "bpm"), Signal("glucose", "mg/dL"))
  devices = ("watch",)
  beside = ()

  def files(self, export):
    return export.matching("*.made")

  def read(self, export, name, account):
    rng = np.random.default_rng(int(name[0]))
    for block in range(6):
      who = f"p{rng.integers(3)}"
      account.add(who, 100)
      start = rng.integers(1.6e12, 1.7e12, 100)
      signal, unit = [("heart_rate", "bpm"), ("glucose", "mmol/L")][block % 2]
      device = ["watch", "belt"][block // 2 % 2]
      offset = rng.integers(-60, 60, 100) if block % 3 else None
      yield Readings(who, signal, unit, start, start + block, rng.normal(80, 9, 100), device, offset)
    yield Stretch("p0", "running", 5, 9)


def reader(filled, recipe):
  groups = [spool_group.SpoolGroup.load(path) for path in filled.groups]
  return spool_reader.SpoolReader(groups, [*filled.people], recipe, MadeUp.devices)


@pytest.mark.parametrize("smallest_group", [1, spool.SMALLEST_GROUP])
@pytest.mark.parametrize(("rows_per_part", "rows_at_once"), [(2**20, 2**21), (70, 2**21), (250, 100)])
def test_the_spool_gives_back_what_was_read(tmp_path, monkeypatch, rows_per_part, rows_at_once, smallest_group):
  monkeypatch.setattr(spool, "SMALLEST_GROUP", smallest_group)
  monkeypatch.setattr(spool_group, "ROWS_PER_PART", rows_per_part)
  monkeypatch.setattr(spool_group, "ROWS_PER_GROUP", 64)
  monkeypatch.setattr(spool_reader, "ROWS_AT_ONCE", rows_at_once)
  (tmp_path / "in").mkdir()
  for n in range(4):
    (tmp_path / "in" / f"{n}.made").write_text("made up")
  export_set = ExportSet(tmp_path / "in", MadeUp())
  for _ in range(2):  # the second time it is loaded from the journal
    filled = spool.fill_spool(export_set, tmp_path / "spool")
  recipe, _ = ImportOptions().recipe_for(MadeUp(), filled)
  expected = collections.defaultdict(list)
  for n in range(4):
    for item in MadeUp().read(export_set.exports[0], f"{n}.made", Account()):
      if isinstance(item, Readings):
        for i in range(100):
          signal, value = ("heart_rate", "glucose").index(item.signal), item.value[i]
          value = value * 18.016 if signal else value
          offset = NO_OFFSET if item.offset is None else item.offset[i]
          device = ("watch", "belt").index(item.device)
          expected[item.participant].append((item.start[i], item.end[i], signal, device, value, offset))
  rows_of = {}
  for who, parts in reader(filled, recipe).people():
    parts = list(parts)
    assert all(a.start.max() < b.start.min() for a, b in itertools.pairwise(parts))
    assert len(parts) > (1 if rows_at_once == 100 else 0)
    columns = ("start", "end", "signal", "device", "value", "offset")
    rows_of[who] = sorted(
      row for p in parts for row in zip(*(getattr(p, name).tolist() for name in columns), strict=True)
    )
  assert len(filled.groups) == (4 if smallest_group == 1 else 1)
  assert rows_of.keys() == expected.keys()
  for who, rows in expected.items():
    np.testing.assert_allclose(np.array(rows_of[who]), np.array(sorted(rows)), rtol=1e-12)
  assert filled.people == {who: len(rows) for who, rows in expected.items()}
  assert filled.account.read == collections.Counter({who: len(rows) for who, rows in expected.items()})
  assert filled.stretches == [Stretch("p0", "running", 5, 9)] * 4


def test_impossible_times_take_one_part_each(tmp_path, monkeypatch):
  monkeypatch.setattr(spool_reader, "ROWS_AT_ONCE", 2)
  group = spool_group.SpoolWriter(tmp_path / "a")
  start = np.array([-(2**63), 0, 1_700_000_000_000, 2**63 - 1])
  group.add(Readings("p", "heart_rate", "bpm", start, start, np.ones(4)))
  group.end_file(Account())
  group.complete()
  filled = spool.Spool()
  filled.add(tmp_path / "a")
  recipe, _ = ImportOptions().recipe_for(MadeUp(), filled)
  ((_, parts),) = reader(filled, recipe).people()
  assert [part.start.tolist() for part in parts] == [start[:2].tolist(), [1_700_000_000_000], [2**63 - 1]]


def test_memory_does_not_grow_with_the_readings(tmp_path, monkeypatch):
  monkeypatch.setattr(spool_group, "ROWS_PER_PART", 20_000)
  monkeypatch.setattr(spool_group, "ROWS_PER_GROUP", 1_000)
  monkeypatch.setattr(spool_reader, "ROWS_AT_ONCE", 20_000)
  count = 600_000

  class Many(MadeUp):
    def read(self, export, name, account):
      for first in range(0, count, 5_000):
        start = 1_500_000_000_000 + 60_000 * np.arange(first, first + 5_000)
        yield Readings("p", "heart_rate", "bpm", start, start, np.ones(5_000))

  (tmp_path / "0.made").write_text("")
  tracemalloc.start()
  try:
    filled = spool.fill_spool(ExportSet(tmp_path, Many()), tmp_path / "spool")
    recipe, _ = ImportOptions().recipe_for(Many(), filled)
    ((_, parts),) = reader(filled, recipe).people()
    assert sum(len(part) for part in parts) == count
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 8e6 < count * 34
