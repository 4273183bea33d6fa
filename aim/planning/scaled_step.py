"""A compiled step, read from preflight.json, and what it would need on another number of chips.

Arithmetic and memory traffic go with a chip's windows, the update's traffic does not; exchanges are rings of as many
bytes among more chips or fewer.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any

from aim.planning.collectives import Collective
from aim.runtime.devices import DataSheet
from data_pipelines.errors import UserError

STORED = 68_225 / (4 * 26 * 1440)  # bytes in a file for a byte of float32 in memory (benchmarks/results/loader.csv)
SLICES = {
  "TPU v5e": 256,
  "TPU v6e": 256,
  "TPU v5p": 8960,
}  # chips of the largest; further ones are another network away
STRONG, WEAK, COMPILED = "strong", "weak", "compiled"


class ScaleOutError(UserError):
  """A preflight.json that cannot be scaled, or not to what is asked."""


@dataclasses.dataclass(frozen=True)
class Point:
  """One slice. Terms are seconds of a step at full speed of one resource alone; `limit` is the longest.

  Attributes:
    scaling: STRONG: the batch stays; WEAK: a chip's windows stay; COMPILED: as preflight.json has it.
    accumulate: microbatches that the step needs to fit.
    efficiency: windows/s of a chip, of those on the smallest slice; NaN where COMPILED.
    stored_bytes_per_second_and_host: that a host reads from files.
    days, chip_hours: of the run: as many windows in all as the preflight's.
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
    return {"compute": self.compute, "memory": self.memory, "network": self.network, "loader": self.loader}


COLUMNS = tuple(field.name for field in dataclasses.fields(Point))


@dataclasses.dataclass(frozen=True)
class CompiledStep:
  """What preflight.json says of one step of `batch` windows on `chips`.

  Attributes:
    fsdp: chips that share a set of parameters.
    flops: of a window, recomputation included.
    moved, state: bytes of a chip: memory traffic of a step; parameters, moments and average.
    most: windows of a chip that fit in a microbatch.
    terms: seconds of a step.
    a_window: its bytes of float32.
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
  a_window: float

  def as_compiled(self, loader: float) -> Point:
    return self._point(COMPILED, self.chips, self.batch, self.accumulate, self.terms, loader)

  def scaled(self, scaling: str, chips: int, batch: int, loader: float) -> Point | None:
    """On another slice; None where windows or fsdp groups are no whole ones, or do not fit.

    loader: windows/s that one host reads.
    """
    accumulate = self._accumulate(batch // chips)
    if chips % self.fsdp or batch % chips or accumulate is None:
      return None
    update = min(self.moved, 2.0 * self.state)  # read and written once a step
    a_window = (self.moved - update) * self.chips / self.batch
    exchanges = [self._among(each, chips, accumulate) for each in self.exchanges]
    terms = {
      "compute": batch / chips * self.flops / self.device.flops,
      "memory": (update + batch / chips * a_window) / self.device.bandwidth,
      "network": sum(each.seconds(self.device, self.device.box) for each in exchanges),
    }
    return self._point(scaling, chips, batch, accumulate, terms, loader)

  def _accumulate(self, windows: int) -> int | None:
    """The least number of microbatches in which so many windows of a chip fit."""
    return next((n for n in range(1, windows + 1) if windows % n == 0 and windows // n <= self.most), None)

  def _among(self, exchange: Collective, chips: int, accumulate: int) -> Collective:
    """The same exchange on another slice: inside an fsdp group as it is, else among more chips or fewer."""
    size, stride = len(exchange.group), exchange.group[1] - exchange.group[0]
    inside = stride == 1 and size == self.fsdp
    size = size if inside else size * chips // self.chips
    group = tuple(range(0, size * stride, stride))
    return dataclasses.replace(exchange, group=group, count=exchange.count * accumulate // self.accumulate)

  def _point(
    self, scaling: str, chips: int, batch: int, accumulate: int, terms: dict[str, float], loader: float
  ) -> Point:
    hosts = math.ceil(chips * self.hosts / self.chips)
    terms = terms | {"loader": batch / hosts / loader}
    seconds = max(terms.values())
    rate = batch / seconds
    days = self.steps * self.batch / rate / 86400
    return Point(
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
      stored_bytes_per_second_and_host=rate / hosts * self.a_window * STORED,
      days=days,
      chip_hours=24 * days * chips,
    )


def curve(step: CompiledStep, scaling: str, chips: Iterable[int], loader: float) -> list[Point]:
  """The slices that can be had, in order, with their efficiency. ScaleOutError if there is none."""
  made = []
  for count in sorted(set(chips)):
    batch = step.batch if scaling == STRONG else step.batch * count // step.chips
    made.append(step.scaled(scaling, count, batch, loader))
  points = [point for point in made if point is not None]
  if not points:
    told = ",".join(map(str, sorted(set(chips))))
    raise ScaleOutError(f"--chips={told}: {step.batch} windows of {step.model} cannot be had on any of these")
  best = points[0].windows_per_second / points[0].chips
  return [dataclasses.replace(p, efficiency=p.windows_per_second / p.chips / best) for p in points]


def read(path: pathlib.Path) -> CompiledStep:
  """A preflight.json; ScaleOutError naming it if it is none, or one of a step that cannot be scaled."""
  try:
    return _read(json.loads(path.read_text(encoding="utf-8")), path)
  except FileNotFoundError:
    raise ScaleOutError(f"{path}: no such file; --mode=preflight writes it") from None
  except (KeyError, TypeError, ValueError) as error:
    raise ScaleOutError(f"{path}: not a preflight.json of this version: {type(error).__name__}: {error}") from None


def _read(told: dict[str, Any], path: pathlib.Path) -> CompiledStep:
  mesh, config, memory, data = told["mesh"], told["config"], told["memory"], told["data"]
  if told["roofline"] is None:
    raise ScaleOutError(f"{path}: the step does not fit {told['topology']}: there is nothing to scale")
  if mesh["tensor"] > 1 or mesh["slices"] > 1:
    raise ScaleOutError(f"{path}: its mesh is {mesh}, expected tensor 1 and slices 1")
  chips, batch, accumulate, kind = told["devices"], config["batch_size"], config["accumulate"], told["device"]["kind"]
  device = DataSheet(**{field.name: told["device"][field.name] for field in dataclasses.fields(DataSheet)})
  return CompiledStep(
    model=f"{config['name']} {told['parameters'] / 1e6:.3g}M",
    device=dataclasses.replace(device, box=device.box or SLICES.get(kind)),
    kind=kind,
    chips=chips,
    hosts=told["hosts"],
    fsdp=mesh["fsdp"],
    batch=batch,
    accumulate=accumulate,
    steps=config["total_steps"],
    flops=told["flops_per_window"]["with_recomputation"],
    moved=told["bytes_moved"],
    state=sum(memory[name] for name in ("parameters", "optimizer", "average")),
    most=(told["largest_batch"]["windows"] or batch) // (chips * accumulate),
    exchanges=tuple(_exchange(each) for each in told["collectives"]),
    terms={name: told["roofline"][name] for name in ("compute", "memory", "network")},
    a_window=data["bytes_per_second_and_host"] / data["windows_per_second_and_host"],
  )


def _exchange(told: dict[str, Any]) -> Collective:
  group = tuple(range(0, told["devices"] * told["stride"], told["stride"]))
  return Collective(told["kind"], told["count"], told["bytes"], group)
