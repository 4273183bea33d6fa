"""Minutes of activity from raw acceleration, block by block: ENMO, counts, and whether the device was worn.

ENMO is the mean of max(|a| - 1 g, 0) over a minute's samples (van Hees et al., PLoS ONE 8(4):e61691, 2013), calibrated
by `calibration` where the recording allows. Counts are those of `counts`. A device was not worn by the same paper's
rule as GGIR applies it: in the 60 minutes around each 15 minutes, at least two axes have an SD below 13 mg and a range
below 50 mg.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

from data_pipelines.ingest.importers.accelerometers.calibration import Calibration, fit
from data_pipelines.ingest.importers.accelerometers.counts import RATES, CountFilter
from data_pipelines.ingest.reading.clocks import MINUTE

_SECOND, _MINUTE = 1_000_000_000, 60_000_000_000  # ns
_TENTH = _SECOND // 10
_GAP = _SECOND // 2  # without a sample: a new recording begins
_REGULAR = 0.05  # of the time between samples: what times may differ from a regular clock's by rounding
_WINDOW = 10  # s: samples are summed by, for the calibration
_LEAST_SHARE = 0.9  # of a minute or window
_BLOCK, _BEFORE, _AROUND = 15, 22, 60  # minutes: classified together, looked at before them, looked at in all
_STILL_SD, _STILL_RANGE, _STILL_AXES = 0.013, 0.05, 2  # g


@dataclasses.dataclass(frozen=True)
class Minutes:
  """Summaries of the samples of each minute, in the order of time; only minutes that have samples.

  Attributes:
    start: ms of the minute on the clock of the samples.
    enmo: mean over the minute, in thousandths of g.
    counts: sums over the minute by axis (x, y, z).
    whole: whether the minute has samples for at least nine tenths of it.
    worn: whether the device was worn.
  """

  start: Int64[np.ndarray, "m"]
  enmo: Float64[np.ndarray, "m"]
  counts: Float64[np.ndarray, "3 m"]
  whole: Bool[np.ndarray, "m"]
  worn: Bool[np.ndarray, "m"]


@dataclasses.dataclass
class _Sums:
  """Sums by window of time; several entries may be of one window until `merged` joins them."""

  window: Int64[np.ndarray, "m"]
  number: Int64[np.ndarray, "m"]
  excess: Float64[np.ndarray, "m"]
  total: Float64[np.ndarray, "m 3"]
  square: Float64[np.ndarray, "m 3"]
  low: Float64[np.ndarray, "m 3"]
  high: Float64[np.ndarray, "m 3"]

  @classmethod
  def of(cls, window: Int64[np.ndarray, "n"], samples: Float64[np.ndarray, "n 3"]) -> _Sums:
    """Sums of samples, whose windows are in order."""
    first = np.append(0, np.flatnonzero(np.diff(window)) + 1)
    excess = np.maximum(np.sqrt((samples**2).sum(axis=1)) - 1, 0)
    return cls(
      window[first],
      np.diff(np.append(first, len(window))),
      np.add.reduceat(excess, first),
      np.add.reduceat(samples, first),
      np.add.reduceat(samples**2, first),
      np.minimum.reduceat(samples, first),
      np.maximum.reduceat(samples, first),
    )

  @classmethod
  def merged(cls, parts: Sequence[_Sums], length: int) -> _Sums:
    """Joins sums that are in the order of time to windows of `length` of theirs, of which two parts may have one."""
    columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(cls)}
    columns["window"] //= length
    first = np.append(0, np.flatnonzero(np.diff(columns["window"])) + 1)
    join = {"window": np.minimum, "low": np.minimum, "high": np.maximum}
    return cls(**{name: join.get(name, np.add).reduceat(column, first) for name, column in columns.items()})


class MinuteSums:
  """Gathers the samples of one recording into minutes; a week takes 10 MB whatever its rate."""

  def __init__(self, rate: float, calibration: Calibration | None = None):
    """Starts at a nominal rate in Hz, at which a minute is whole.

    Counts are computed at the nearest rate of ActiGraph's devices. With a calibration, for a second pass over the same
    samples, only ENMO is.
    """
    self._rate, self._calibration = rate, calibration
    self._grid_rate = min(RATES, key=lambda known: (abs(known - rate), -known))
    self._sums: list[_Sums] = []
    self._tenths: list[tuple[Int64[np.ndarray, "t"], Float64[np.ndarray, "3 t"], Int64[np.ndarray, "t"]]] = []
    self._last = np.iinfo(np.int64).min
    self._run: _Run | None = None
    self._repeated: set[int] = set()

  def add(self, time: Int64[np.ndarray, "n"], samples: Float64[np.ndarray, "n 3"]) -> None:
    """Adds samples, in g, at times in ns."""
    latest = np.maximum.accumulate(np.append(self._last, time))[:-1]
    again = time <= latest
    if again.any():
      self._repeated.update(np.unique(time[again] // _MINUTE).tolist())
      time, samples = time[~again], samples[~again]
    if not len(time):
      return
    self._last = int(time[-1])
    calibrated = samples if self._calibration is None else self._calibration.applied(samples)
    self._sums.append(_Sums.of(time // (_WINDOW * _SECOND), calibrated))
    if self._calibration is None:
      self._count(time, samples)

  @property
  def repeated(self) -> int:
    """Number of minutes with samples that the clock, put back, had shown before."""
    return len(self._repeated)

  def _count(self, time: Int64[np.ndarray, "n"], samples: Float64[np.ndarray, "n 3"]) -> None:
    before = time[0] - _GAP if self._run is None else self._run.last
    starts = np.flatnonzero(np.diff(time, prepend=before) >= _GAP)
    for first, end in zip([0, *starts], [*starts, len(time)], strict=True):
      if first < end:
        if self._run is None or first in starts:
          self._run = _Run(int(time[first]), self._grid_rate)
        minute, counts = self._run.counts(time[first:end], samples[first:end])
        edges = np.append(0, np.flatnonzero(np.diff(minute)) + 1)
        if len(minute):
          sizes = np.diff(np.append(edges, len(minute)))
          self._tenths.append((minute[edges], np.add.reduceat(counts, edges, axis=1), sizes))

  def minutes(self) -> Minutes | None:
    """All minutes so far; None without any sample."""
    if not self._sums:
      return None
    sums = _Sums.merged(self._sums, 60 // _WINDOW)
    counts, tenths = np.zeros((3, len(sums.window))), np.zeros(len(sums.window), np.int64)
    for minute, amounts, number in self._tenths:
      # A tenth of a second may begin in the minute after its samples.
      place = np.minimum(np.searchsorted(sums.window, minute), len(sums.window) - 1)
      np.add.at(counts.T, place, amounts.T)
      np.add.at(tenths, place, number)
    whole = (sums.number >= _LEAST_SHARE * 60 * self._rate) & (tenths >= _LEAST_SHARE * 600)
    return Minutes(sums.window * MINUTE, 1000 * sums.excess / sums.number, counts, whole, ~_still(sums))

  def calibration(self) -> Calibration | None:
    """The calibration that rest in several positions gives; None if there is too little of it."""
    if not self._sums:
      return None
    sums = _Sums.merged(self._sums, 1)
    whole = sums.number >= _LEAST_SHARE * _WINDOW * self._rate
    mean = sums.total / sums.number[:, None]
    sd = np.sqrt(np.maximum(sums.square / sums.number[:, None] - mean**2, 0))
    return fit(mean[whole & (sd < _STILL_SD).all(axis=1)])


class _Run:
  """Samples without a gap, put on a regular clock for the count filter."""

  def __init__(self, start: int, rate: int):
    self._start, self._period = start, _SECOND / rate
    self._filter = CountFilter(rate)
    self._sampled, self._counted = 0, 0  # samples of the regular clock, tenths of a second
    self._last_sample: Float64[np.ndarray, "1 3"] | None = None
    self.last = start

  def counts(
    self, time: Int64[np.ndarray, "n"], samples: Float64[np.ndarray, "n 3"]
  ) -> tuple[Int64[np.ndarray, "t"], Float64[np.ndarray, "3 t"]]:
    """The minute and the counts of each tenth of a second that these samples complete."""
    seconds = (time - self._start).astype(np.float64)
    due = (self._sampled + np.arange(len(time))) * self._period
    regular = samples if np.abs(seconds - due).max() <= _REGULAR * self._period else self._between(seconds, samples)
    self._sampled += len(regular)
    self.last, self._last_sample = int(time[-1]), samples[-1:]
    counts = self._filter.counts(regular)
    tenth = self._counted + np.arange(counts.shape[1])
    self._counted += counts.shape[1]
    return (self._start + tenth * _TENTH) // _MINUTE, counts

  def _between(self, time: Float64[np.ndarray, "n"], samples: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "m 3"]:
    """Values at the instants of the regular clock up to the last of these samples, by linear interpolation."""
    if self._last_sample is not None:
      time = np.append(self.last - self._start, time)
      samples = np.concatenate([self._last_sample, samples])
    due = np.arange(self._sampled, int(time[-1] // self._period) + 1) * self._period
    return np.stack([np.interp(due, time, axis) for axis in samples.T], axis=1)


def _still(sums: _Sums) -> Bool[np.ndarray, "m"]:
  """Minutes in which the device was not worn."""
  block = sums.window // _BLOCK
  still = np.zeros(len(block), bool)
  for which in np.unique(block):
    begin = which * _BLOCK - _BEFORE
    first, end = np.searchsorted(sums.window, (begin, begin + _AROUND))
    around = slice(int(first), int(end))
    number = sums.number[around].sum()
    mean = sums.total[around].sum(axis=0) / number
    sd = np.sqrt(np.maximum(sums.square[around].sum(axis=0) / number - mean**2, 0))
    extent = sums.high[around].max(axis=0) - sums.low[around].min(axis=0)
    if ((sd < _STILL_SD) & (extent < _STILL_RANGE)).sum() >= _STILL_AXES:
      still[block == which] = True
  return still
