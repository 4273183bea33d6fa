"""Research accelerometers: samples of ActiGraph, GENEActiv and Axivity, and ActiGraph's tables of epochs.

  *.gt3x            ActiGraph, samples                 see gt3x.py
  *.bin             GENEActiv, samples                 see recordings.py; other files of that ending are left alone
  *.cwa             Axivity AX3 and AX6, samples       see recordings.py
  *.csv             ActiGraph, tables of epochs        see epoch_csv.py; recognised by their first line

Samples become minutes (see minutes.py, calibration.py and counts.py): enmo (thousandths of g; calibrated if the
recording rests in enough positions, or else as the account notes); activity_counts along y, which ActiGraph calls axis
1, activity_counts_axis2 along x, activity_counts_axis3 along z, and activity_counts_vm, the vector magnitude of the
three sums. The axes of Axivity and GENEActiv lie otherwise at the wrist, so only the vector magnitude can be compared
between makers. Light (lux) and temperature (C) are means.

A row of the account is a value: of an epoch one for each column, of a minute of samples five. Dropped are the values of
minutes without samples for a tenth of them or more, of minutes in which the device was not worn by the rule of van Hees
et al. (2013), and of minutes that a clock, put back, had shown before. A damaged stretch of a file counts as a row. For
tables of epochs, and once more for counts, the recipe infers from activity_counts_vm by Choi et al. (2011) when the
device was worn. While an ActiGraph sleeps (idle sleep mode) it records nothing, and nothing is filled in.

All times are on the device's own clock, set to local time when it was configured, without a zone: the nights on which
clocks change are not corrected by any of the makers. A file is of the subject that it names (see subjects.py), unless
the user says otherwise; whose the others are, and whether the same name in two folders is one person, has to be said.
Of two devices of a person that recorded at the same time, as at both wrists, one counts at a time: that whose serial
number comes first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.accelerometers import epoch_csv, gt3x, recordings
from data_pipelines.ingest.importers.accelerometers.minutes import Minutes, MinuteSums
from data_pipelines.ingest.importers.accelerometers.subjects import subject
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.clocks import MINUTE
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.owners import Owner
from data_pipelines.ingest.reading.readings import Readings
from data_pipelines.ingest.reading.signals import Signal, common_signal

_MS = 1_000_000  # ns
_BLOCK = 500_000  # samples
_OF_SAMPLES = ("enmo", "activity_counts", "activity_counts_axis2", "activity_counts_axis3", "activity_counts_vm")
_MOST_COUNTS = 600 * 128  # per minute and axis


class Accelerometer:
  """Reads samples of ActiGraph, GENEActiv and Axivity, and ActiGraph's tables; the module's docstring lists files."""

  signals: Sequence[Signal] = (
    common_signal("enmo"),
    common_signal("activity_counts", high=_MOST_COUNTS),
    common_signal("activity_counts_axis2", high=_MOST_COUNTS),
    common_signal("activity_counts_axis3", high=_MOST_COUNTS),
    common_signal("activity_counts_vm", high=2 * _MOST_COUNTS),
    common_signal("steps", quiet=False, high=1000),
    common_signal("light"),
    common_signal("temperature"),
  )
  devices: Sequence[str] = ()  # their names sort: samples come before epochs
  beside: Sequence[str] = ()
  wear_counts = "activity_counts_vm"

  def files(self, export: Export) -> list[str]:
    samples = export.matching("*.gt3x", "*.cwa")
    samples += [n for n in export.matching("*.bin") if _beginning(export, n).startswith(recordings.GENEACTIV_START)]
    return samples + [n for n in export.matching("*.csv") if epoch_csv.is_epoch_table(_beginning(export, n))]

  def owners(self, export: Export, names: Sequence[str]) -> dict[str, Owner]:
    subjects = {name: subject(export, name) for name in names}
    return {n: Owner(n.rpartition("/")[0], subject=who) if who else Owner(n) for n, who in subjects.items()}

  def read(self, export: Export, name: str, account: Account) -> Iterator[Readings]:
    ending, participant = name.rpartition(".")[2].lower(), export.participant
    if ending == "csv":
      blocks = epoch_csv.read_epochs(export, name, participant, account)
    elif ending == "gt3x":
      blocks = _read_gt3x(export, name, participant, account)
    else:
      blocks = _read_recording(export, name, participant, account)
    for block in blocks:
      account.add(block.participant, len(block.start))
      yield block


def _beginning(export: Export, name: str) -> bytes:
  try:
    with export.open(name) as file:
      return file.read(200)
  except SchemaError:
    return b""  # reading it says so


def _read_gt3x(export: Export, name: str, participant: str, account: Account) -> Iterator[Readings]:
  where, damage = export.where(name), gt3x.Damage(where=f"{export.where(name)}/log.bin")
  with export.inside(name) as inside:
    info = gt3x.read_info(inside)
    device = _device(info.serial)
    sums = MinuteSums(info.rate)
    with inside.open("log.bin") as file:
      for kind, time, values in gt3x.samples(file, info, damage):
        if kind == gt3x.LUX:
          start = time // _MS
          yield Readings(participant, "light", "lux", start, start, values[:, 0], device, clock="wall")
        else:
          sums.add(time, values)
    again = None
    if calibration := sums.calibration():
      again = MinuteSums(info.rate, calibration)
      with inside.open("log.bin") as file:
        for kind, time, values in gt3x.samples(file, info, gt3x.Damage()):
          if kind != gt3x.LUX:
            again.add(time, values)
  if damage.stretches:
    account.add(participant, damage.stretches)
    place = f" from byte {damage.first:,} of log.bin on"
    account.damaged(participant, "damaged stretch of log.bin", where, place, damage.stretches)
  yield from _minutes(sums, again, participant, device, where, account)


def _read_recording(export: Export, name: str, participant: str, account: Account) -> Iterator[Readings]:
  where = export.where(name)
  with export.on_disk(name) as path:
    recording = recordings.read_recording(path, where)
  device, sums = _device(recording.serial), MinuteSums(recording.rate)
  if recording.warnings:
    account.add(participant, len(recording.warnings))
    place = f": {recording.warnings[0]}"
    account.damaged(participant, "damaged stretch of the file", where, place, len(recording.warnings))
  _add(recording, sums)
  again = None
  if calibration := sums.calibration():
    again = MinuteSums(recording.rate, calibration)
    _add(recording, again)
  for signal, unit, time, values in recording.beside:
    finite = np.isfinite(values)
    minute, index, number = np.unique(time[finite] // _MS // MINUTE, return_inverse=True, return_counts=True)
    mean = np.bincount(index, values[finite]) / number
    if len(minute):
      yield Readings(participant, signal, unit, minute * MINUTE, minute * MINUTE, mean, device, clock="wall")
  yield from _minutes(sums, again, participant, device, where, account)


def _device(serial: str) -> str:
  return f"1 samples {serial[:40]}".rstrip()


def _add(recording: recordings.Recording, sums: MinuteSums) -> None:
  for first in range(0, len(recording.time), _BLOCK):
    block = slice(first, first + _BLOCK)
    sums.add(recording.time[block], recording.samples[block].astype(np.float64))


def _minutes(
  sums: MinuteSums, calibrated: MinuteSums | None, participant: str, device: str, where: str, account: Account
) -> Iterator[Readings]:
  """Yields ENMO and counts of the minutes that are whole and in which the device was worn, and counts the others."""
  again_shown = len(_OF_SAMPLES) * sums.repeated
  account.add(participant, again_shown)
  account.drop(participant, "value of a minute that the clock had shown before", again_shown, where)
  minutes, again = sums.minutes(), calibrated.minutes() if calibrated else None
  if minutes is None:
    return
  if again is not None:
    minutes = dataclasses.replace(minutes, enmo=again.enmo)
  else:
    account.remark(participant, "ENMO of a recording that rests in too few positions to be calibrated")
  good = np.ones(len(minutes.start), bool)
  for why, bad in (
    ("value of a minute without samples for a tenth of it or more", ~minutes.whole),
    ("value of a minute in which the device was not worn (van Hees et al. 2013)", ~minutes.worn),
  ):
    dropped = bad & good
    if dropped.any():
      first = np.datetime64(int(minutes.start[dropped.argmax()]), "ms").astype("datetime64[m]")
      lost = len(_OF_SAMPLES) * int(dropped.sum())
      account.add(participant, lost)
      account.drop(participant, why, lost, f"{where} at {first}")
    good &= ~bad
  yield from _readings(minutes, good, participant, device)


def _readings(minutes: Minutes, good: np.ndarray, participant: str, device: str) -> Iterator[Readings]:
  if not good.any():
    return
  start = minutes.start[good]
  x, y, z = minutes.counts[:, good]
  values = (minutes.enmo[good], y, x, z, np.sqrt(x**2 + y**2 + z**2))
  for signal, value in zip(_OF_SAMPLES, values, strict=True):
    unit = "milligravity" if signal == "enmo" else "counts"
    yield Readings(participant, signal, unit, start, start + MINUTE, value, device, clock="wall")
