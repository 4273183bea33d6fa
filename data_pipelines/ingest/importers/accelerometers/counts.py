"""ActiGraph's activity counts from raw acceleration.

Neishabouri, Nguyen, Samuelsson et al., "Quantification of acceleration as activity counts in ActiGraph wearables",
Scientific Reports 12 (2022) 11958, https://doi.org/10.1038/s41598-022-16003-x: resample to 30 Hz, band-pass filter,
rectify, cut at 128 and below 4, average three samples to 10 Hz, sum. The filter's coefficients are those of the paper.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64
from scipy import signal

RATES = (30, 40, 50, 60, 70, 80, 90, 100)  # Hz, at which ActiGraph's devices sample
_RATE = 30  # Hz of the band-pass filter
_INPUT = (
  *(-0.009341062898525, -0.025470289659360, -0.004235264826105, 0.044152415456420),
  *(0.036493718347760, -0.011893961934740, -0.022917390623150, -0.006788163862310, 0.0),
)
_OUTPUT = (
  *(1.0, -3.63367395910957, 5.03689812757486, -3.09612247819666, 0.50620507633883),
  *(0.32421701566682, -0.15685485875559, 0.01949130205890, 0.0),
)
_GAIN = (3 / 4096) / (2.6 / 256) * 237.5  # g to ActiGraph's units
_LEAST, _MOST = 4, 128
_WITHOUT_LOW_PASS = (30, 60, 90)


class CountFilter:
  """Turns one uninterrupted recording into counts per tenth of a second, block by block."""

  def __init__(self, rate: int):
    """Starts a recording; `rate` is one of RATES, in Hz."""
    divisor = math.gcd(_RATE, rate)
    self._up, self._down = _RATE // divisor, rate // divisor
    self._smooths = rate not in _WITHOUT_LOW_PASS
    pole = (math.pi - 2 * self._up) / (math.pi + 2 * self._up)
    gain = math.pi / (math.pi + 2 * self._up) * self._up
    self._low_pass = (gain, gain), (1.0, pole)
    self._low_pass_state = np.zeros((3, 1))
    self._band_pass_state: Float64[np.ndarray, "3 8"] | None = None
    self._samples = np.zeros((3, 0))  # that do not yet fill a whole number of steps at 30 Hz
    self._rest = np.zeros((3, 0))  # values at 30 Hz that do not yet fill a tenth of a second

  def counts(self, samples: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "3 m"]:
    """Counts of each further tenth of a second that these samples (in g) complete, by axis."""
    waiting = np.concatenate([self._samples, samples.T], axis=1)
    whole = waiting.shape[1] // self._down * self._down
    self._samples = waiting[:, whole:]
    if not whole:
      return np.zeros((3, 0))
    values = np.concatenate([self._rest, self._filtered(self._at_30_hz(waiting[:, :whole]))], axis=1)
    whole = values.shape[1] // 3 * 3
    self._rest = values[:, whole:]
    return np.floor(values[:, :whole].reshape(3, -1, 3).sum(axis=2) / 3)

  def _at_30_hz(self, samples: Float64[np.ndarray, "3 n"]) -> Float64[np.ndarray, "3 m"]:
    if self._up > 1:
      spread = np.zeros((3, samples.shape[1] * self._up))
      spread[:, :: self._up] = samples
      samples = spread
    if self._smooths:
      samples, self._low_pass_state = signal.lfilter(*self._low_pass, samples, zi=self._low_pass_state)
    return np.round(samples[:, :: self._down], 3)

  def _filtered(self, samples: Float64[np.ndarray, "3 n"]) -> Float64[np.ndarray, "3 n"]:
    if self._band_pass_state is None:
      self._band_pass_state = signal.lfilter_zi(_INPUT, _OUTPUT) * samples[:, :1]
    filtered, self._band_pass_state = signal.lfilter(_INPUT, _OUTPUT, samples, zi=self._band_pass_state)
    size = np.abs(filtered * _GAIN)
    return np.floor(np.where(size < _LEAST, 0, np.minimum(size, _MOST)))
