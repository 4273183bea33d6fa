"""GENEActiv's .bin and Axivity's .cwa, read by the package actfast.

Times are those of the device's clock, which both makers set to local time when a recording is configured. GENEActiv's
samples are calibrated with the file's own gains and offsets; its temperature is in degrees Celsius and its light in
lux. Of Axivity's files the temperature is read, and not the light, which is no lux. Its files hold about 100 samples
per second on a clock that drifts; actfast gives every sample its time.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import actfast
import numpy as np
from jaxtyping import Float32, Int64

from data_pipelines.errors import SchemaError

GENEACTIV_START = b"Device Identity"
_SECTOR, _BLOCK = 512, 1 << 20  # bytes
_PLAIN = bytes(byte if byte < 128 else ord("?") for byte in range(256))
_FORMATS = {"GeneActiv BIN": "geneactiv", "Axivity CWA": "axivity"}


@dataclasses.dataclass(frozen=True)
class Recording:
  """Content of a recording file.

  Attributes:
    device: "geneactiv" or "axivity".
    serial: serial number of the device, "" if the file does not say.
    rate: nominal rate of the samples, Hz.
    time: [n] ns since 1970 on the clock of the device.
    samples: [n, 3] acceleration in g.
    beside: signal, unit, times (ns) and values of what else it measures.
    warnings: what is damaged, as the reader says it.
  """

  device: str
  serial: str
  rate: float
  time: Int64[np.ndarray, "n"]
  samples: Float32[np.ndarray, "n 3"]
  beside: list[tuple[str, str, np.ndarray, np.ndarray]]
  warnings: list[str]


def read_recording(path: pathlib.Path, where: str) -> Recording:
  """Reads a whole file into memory: 20 bytes per sample, 1.2 GB for a week at 100 Hz.

  Raises:
    SchemaError: the file is not of these formats, or nothing of it can be read.
  """
  content = _content(path, where)
  device = _FORMATS.get(content["format"])
  if device is None:
    raise SchemaError(f"{where}: is {content['format']}, expected GENEActiv's .bin or Axivity's .cwa")
  tables = content["timeseries"]
  fast: Mapping[str, Any] = tables.get("high_frequency", {})
  slow: Mapping[str, Any] = tables.get("low_frequency", {})
  if "acceleration" not in fast or not len(fast["datetime"]):
    raise SchemaError(f"{where}: holds no sample")
  beside = [("temperature", "C", slow["datetime"], slow["temperature"])] if "temperature" in slow else []
  if device == "geneactiv" and "light" in fast:
    beside.append(("light", "lux", fast["datetime"], fast["light"]))
  rate = _rate(content["metadata"], device)
  if not 1 <= rate <= 10_000:
    raise SchemaError(f"{where}: has a rate of {rate:g} Hz, expected 1 to 10,000")
  warnings = list(content["warnings"])
  if device == "axivity" and path.stat().st_size % _SECTOR:
    warnings.append("cut off within a sector")
  samples = fast["acceleration"].reshape(-1, 3)
  return Recording(device, _serial(content["metadata"]), rate, fast["datetime"], samples, beside, warnings)


def _content(path: pathlib.Path, where: str) -> Mapping[str, Any]:
  """Reads a file. The reader refuses a whole .bin, which is text, for one stray byte; here that costs its page."""
  try:
    try:
      return actfast.read(path, lenient=True)
    except ValueError as error:
      if "valid UTF-8" not in str(error):
        raise
    with tempfile.TemporaryDirectory() as folder:
      plain = pathlib.Path(folder) / "recording.bin"
      with path.open("rb") as file, plain.open("wb") as copy:
        while block := file.read(_BLOCK):
          copy.write(block.translate(_PLAIN))
      content = actfast.read(plain, lenient=True)
      return {**content, "warnings": [*content["warnings"], "bytes that are not text"]}
  except (ValueError, OSError, OverflowError) as error:
    raise SchemaError(f"{where}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def _rate(metadata: Mapping[str, Mapping[str, Any]], device: str) -> float:
  if device == "geneactiv":
    return _first_number(metadata.get("Configuration Info", {}).get("Measurement Frequency", ""))
  return _first_number(metadata.get("configuration", {}).get("sample_rate_hz", ""))


def _serial(metadata: Mapping[str, Mapping[str, Any]]) -> str:
  geneactiv = metadata.get("Device Identity", {}).get("Device Unique Serial Code", "")
  return str(geneactiv or metadata.get("device", {}).get("device_id", ""))


def _first_number(text: Any) -> float:
  try:
    return float(str(text).split()[0])
  except (ValueError, IndexError):
    return 0.0
