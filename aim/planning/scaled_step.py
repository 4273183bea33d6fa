"""A step that was analysed by a preflight, and what it would need on another number of chips.

Arithmetic and memory traffic are proportional to the windows per chip, except for the traffic of the update, which is
constant. Exchanges are rings of the same bytes among more or fewer chips.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterable
from typing import Any

from aim.planning.collectives import Collective
from aim.runtime.devices import DataSheet
from data_pipelines.errors import SchemaError, UserError
from data_pipelines.text_files import plain_number, read_json

# Bytes in a file per byte of float32 in memory, for a preflight without a dataset, whose days are in no file: simulated
# days of 26 channels x 1,440 minutes take 68,225 bytes each (`python -m benchmarks.loader`, 2026-11-23: bytes_per_day
# in benchmarks/results/loader.csv). With a dataset the preflight measures its own files.
SIMULATED_STORED_SHARE = 68_225 / (4 * 26 * 1440)
# Chips of the largest slice; more chips are joined by another network.
LARGEST_SLICE = {"TPU v5e": 256, "TPU v6e": 256, "TPU v5p": 8960}
STRONG, WEAK, COMPILED = "strong", "weak", "compiled"


class ScaleOutError(UserError):
  """A preflight.json that cannot be scaled, or not to the requested chips."""


@dataclasses.dataclass(frozen=True)
class SliceEstimate:
  """The estimated throughput of one slice.

  Attributes:
    scaling: STRONG keeps the batch, WEAK keeps the windows per chip, COMPILED is what preflight.json has.
    windows_a_chip: windows per chip and step.
    accumulate: microbatches that the step needs to fit.
    compute, memory, network, loader: seconds per step that this resource needs by itself at full speed.
    seconds, limit: the longest of these, and its name.
    efficiency: windows/s per chip, as a share of that on the smallest slice; NaN for COMPILED.
    stored_bytes_per_second_and_host: what each host reads from files.
    days, chip_hours: for a run of as many windows in total as the preflight's.
  """

  model: str
  device: str
  scaling: str
  chips: int
  hosts: int
  batch: int
  windows_a_chip: float
  accumulate: int
  compute: float
  memory: float
  network: float
  loader: float
  seconds: float
  limit: str
  windows_per_second: float
  efficiency: float
  windows_per_second_and_host: float
  stored_bytes_per_second_and_host: float
  days: float
  chip_hours: float

  @property
  def terms(self) -> dict[str, float]:
    """Seconds per step of each resource."""
    return {"compute": self.compute, "memory": self.memory, "network": self.network, "loader": self.loader}


COLUMNS = tuple(field.name for field in dataclasses.fields(SliceEstimate))


@dataclasses.dataclass(frozen=True)
class AnalysedStep:
  """One step of `batch` windows on `chips`, as preflight.json describes it.

  Attributes:
    kind: the maker's name of a chip.
    fsdp: chips that share one set of parameters.
    steps: of the run.
    flops: per window, recomputation included.
    moved: bytes of memory traffic per chip and step.
    state: bytes of parameters, moments and average per chip.
    most: windows per chip that fit in a microbatch.
    terms: seconds per step of compute, memory and network.
    stored_window: bytes of a window in files.
  """

  model: str
  device: DataSheet
  kind: str
  chips: int
  hosts: int
  fsdp: int
  batch: int
  accumulate: int
  steps: int
  flops: float
  moved: float
  state: int
  most: int
  exchanges: tuple[Collective, ...]
  terms: dict[str, float]
  stored_window: float

  def as_compiled(self, loader: float) -> SliceEstimate:
    """The slice that the preflight compiled for; `loader` is the windows/s that one host reads."""
    return self._estimate(COMPILED, self.chips, self.batch, self.accumulate, self.terms, loader)

  def scaled(self, scaling: str, chips: int, batch: int, loader: float) -> SliceEstimate | None:
    """The step on another slice.

    Args:
      scaling: STRONG or WEAK.
      loader: windows/s that one host reads.

    Returns:
      None if the batch or the fsdp groups cannot be divided among the chips, or do not fit.
    """
    accumulate = self._accumulate(batch // chips)
    if chips % self.fsdp or batch % chips or accumulate is None:
      return None
    update = min(self.moved, 2.0 * self.state)  # the state is read and written once per step
    moved_per_window = (self.moved - update) * self.chips / self.batch
    exchanges = [self._among(exchange, chips, accumulate) for exchange in self.exchanges]
    terms = {
      "compute": batch / chips * self.flops / self.device.flops,
      "memory": (update + batch / chips * moved_per_window) / self.device.bandwidth,
      "network": sum(exchange.seconds(self.device, self.device.box) for exchange in exchanges),
    }
    return self._estimate(scaling, chips, batch, accumulate, terms, loader)

  def _accumulate(self, windows: int) -> int | None:
    """The least number of microbatches in which this many windows per chip fit; None if there is none."""
    return next((n for n in range(1, windows + 1) if windows % n == 0 and windows // n <= self.most), None)

  def _among(self, exchange: Collective, chips: int, accumulate: int) -> Collective:
    """The exchange on another slice: unchanged inside an fsdp group, otherwise among more or fewer chips."""
    size, stride = len(exchange.group), exchange.group[1] - exchange.group[0]
    inside = stride == 1 and size == self.fsdp
    size = size if inside else size * chips // self.chips
    group = tuple(range(0, size * stride, stride))
    return dataclasses.replace(exchange, group=group, count=exchange.count * accumulate // self.accumulate)

  def _estimate(
    self, scaling: str, chips: int, batch: int, accumulate: int, terms: dict[str, float], loader: float
  ) -> SliceEstimate:
    hosts = math.ceil(chips * self.hosts / self.chips)
    terms = terms | {"loader": batch / hosts / loader}
    seconds = max(terms.values())
    rate = batch / seconds
    days = self.steps * self.batch / rate / 86400
    return SliceEstimate(
      model=self.model,
      device=self.kind,
      scaling=scaling,
      chips=chips,
      hosts=hosts,
      batch=batch,
      windows_a_chip=batch / chips,
      accumulate=accumulate,
      **terms,
      seconds=seconds,
      limit=max(terms, key=lambda name: terms[name]),
      windows_per_second=rate,
      efficiency=math.nan,
      windows_per_second_and_host=rate / hosts,
      stored_bytes_per_second_and_host=rate / hosts * self.stored_window,
      days=days,
      chip_hours=24 * days * chips,
    )


def curve(step: AnalysedStep, scaling: str, chips: Iterable[int], loader: float) -> list[SliceEstimate]:
  """The slices on which the step can run, in order of chips, with their efficiency.

  Raises:
    ScaleOutError: it can run on none of them.
  """
  estimates = []
  for count in sorted(set(chips)):
    batch = step.batch if scaling == STRONG else step.batch * count // step.chips
    estimates.append(step.scaled(scaling, count, batch, loader))
  points = [estimate for estimate in estimates if estimate is not None]
  if not points:
    requested = ",".join(map(str, sorted(set(chips))))
    raise ScaleOutError(f"--chips={requested}: {step.batch} windows of {step.model} do not divide among any of these")
  best = points[0].windows_per_second / points[0].chips
  return [dataclasses.replace(p, efficiency=p.windows_per_second / p.chips / best) for p in points]


def read(path: pathlib.Path) -> AnalysedStep:
  """The step of a preflight.json.

  Raises:
    ScaleOutError: there is no such file, it is not a preflight.json, or its step cannot be scaled.
  """
  try:
    return _read(read_json(path), path)
  except SchemaError as error:
    hint = "" if path.exists() else "; --mode=preflight writes it"
    raise ScaleOutError(f"{error}{hint}") from None
  except (KeyError, TypeError, ValueError) as error:
    raise ScaleOutError(f"{path}: not a preflight.json of this version: {type(error).__name__}: {error}") from None


def _read(report: dict[str, Any], path: pathlib.Path) -> AnalysedStep:
  mesh, config, memory, data = report["mesh"], report["config"], report["memory"], report["data"]
  if report["roofline"] is None:
    raise ScaleOutError(f"{path}: the step does not fit {report['topology']}, so there is nothing to scale")
  if mesh["tensor"] > 1 or mesh["slices"] > 1:
    raise ScaleOutError(f"{path}: its mesh is {mesh}, expected tensor 1 and slices 1")
  chips, batch, accumulate, kind = (
    report["devices"],
    config["batch_size"],
    config["accumulate"],
    report["device"]["kind"],
  )
  device = DataSheet(**{field.name: report["device"][field.name] for field in dataclasses.fields(DataSheet)})
  window_bytes = data["bytes_per_second_and_host"] / data["windows_per_second_and_host"]
  return AnalysedStep(
    model=f"{config['name']} {plain_number(report['parameters'] / 1e6)}M",
    device=dataclasses.replace(device, box=device.box or LARGEST_SLICE.get(kind)),
    kind=kind,
    chips=chips,
    hosts=report["hosts"],
    fsdp=mesh["fsdp"],
    batch=batch,
    accumulate=accumulate,
    steps=config["total_steps"],
    flops=report["flops_per_window"]["with_recomputation"],
    moved=report["bytes_moved"],
    state=sum(memory[name] for name in ("parameters", "optimizer", "average")),
    most=(report["largest_batch"]["windows"] or batch) // (chips * accumulate),
    exchanges=tuple(_exchange(raw) for raw in report["collectives"]),
    terms={name: report["roofline"][name] for name in ("compute", "memory", "network")},
    stored_window=data.get("stored_bytes_per_window") or SIMULATED_STORED_SHARE * window_bytes,
  )


def _exchange(raw: dict[str, Any]) -> Collective:
  group = tuple(range(0, raw["devices"] * raw["stride"], raw["stride"]))
  return Collective(raw["kind"], raw["count"], raw["bytes"], group)
