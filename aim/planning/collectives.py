"""Network traffic of a compiled program, read from its optimised HLO, and the roofline of a step."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from aim.planning import hlo
from aim.planning.hlo import Module
from aim.runtime.devices import DataSheet

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Collective:
  """Equal exchanges of a step.

  Attributes:
    kind: one of KINDS.
    count: how many there are per step.
    bytes: size of the whole arrays of one exchange, as every device has them before or after it.
    group: the devices of the first group that exchanges, as places in the mesh.
  """

  kind: str
  count: int
  bytes: int
  group: tuple[int, ...]

  def seconds(self, device: DataSheet, box: int | None = None) -> float:
    """Seconds that all of them take by rings over all links at full speed: a lower bound.

    Args:
      device: the data sheet of every device.
      box: number of devices that the fast network joins; None: all. When a group spans boxes, each box first shares
        its own parts, then every device sends its part to the other boxes.
    """
    size = len(self.group)
    boxes = len({place // box for place in self.group}) if box else 1
    within = max(1, size // boxes)
    rounds = 2 if self.kind == "all-reduce" else 1
    if self.kind == "collective-permute":
      return self.count * self.bytes / (device.network if boxes == 1 else device.beyond)
    inside = rounds * self.bytes * (within - 1) / within / device.network
    outside = rounds * self.bytes / within * (boxes - 1) / boxes / device.beyond
    return self.count * (inside + outside)


def read(module: Module, devices: int) -> list[Collective]:
  """The collectives of a step, equal ones together, the largest in total first.

  Args:
    module: the step's compiled program.
    devices: number of devices that it was compiled for.
  """
  counts: dict[tuple[str, int, tuple[int, ...]], int] = {}
  for _, instruction, times in module.executions():
    kind, start = instruction.opcode.removesuffix("-start"), instruction.opcode.endswith("-start")
    group = _group(instruction.rest, devices) if kind in KINDS else ()
    if len(group) > 1:
      size = _bytes(instruction.shape, kind, start) * (len(group) if kind == "reduce-scatter" else 1)
      counts[kind, size, group] = counts.get((kind, size, group), 0) + times
  collectives = [Collective(kind, count, size, group) for (kind, size, group), count in counts.items()]
  return sorted(collectives, key=lambda collective: -collective.count * collective.bytes)


def _bytes(shape: str, kind: str, start: bool) -> int:
  """Size of the results. An asynchronous start returns operands and results, but an all-reduce only results."""
  arrays = hlo.arrays(shape)
  if start and kind != "all-reduce":
    arrays = [array for array in arrays if array != ("u32", ())]  # the progress of a permutation
    arrays = arrays[len(arrays) // 2 :]
  return hlo.size(arrays)


def _group(rest: str, devices: int) -> tuple[int, ...]:
  """Places of the first group, which HLO writes in four ways."""
  if pairs := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", rest):
    return tuple(int(place) for place in pairs.groups())
  if groups := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
    return tuple(map(int, groups[1].split(",")))
  if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
    shape, over, turned = (tuple(map(int, x.split(","))) if x else None for x in iota.groups())
    places = np.arange(devices).reshape(over)
    return tuple(places.transpose(turned).reshape(shape)[0].tolist())
  if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest):
    axes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
    used = re.findall(r"'([^']+)'", mesh[2])
    places = np.arange(math.prod(axes.values())).reshape(tuple(axes.values()))
    return tuple(places[tuple(slice(None) if name in used else 0 for name in axes)].ravel().tolist())
  return tuple(range(devices))


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Seconds per step that each of three resources needs by itself (Williams et al. 2009).

  At best all three work at the same time, so that the step takes as long as the slowest of them.
  """

  compute: float
  memory: float
  network: float

  @classmethod
  def of(
    cls, device: DataSheet, flops: float, moved: float, collectives: Sequence[Collective], box: int | None
  ) -> Roofline:
    """The roofline of a step.

    Args:
      device: the data sheet of every device.
      flops: FLOPs per device.
      moved: bytes of memory traffic per device.
      collectives: what the devices exchange.
      box: as in Collective.seconds.
    """
    network = sum(collective.seconds(device, box) for collective in collectives)
    return cls(flops / device.flops, moved / device.bandwidth, network)

  @property
  def seconds(self) -> float:
    """The least time of a step."""
    return max(self.compute, self.memory, self.network)

  @property
  def limit(self) -> str:
    """The resource that takes longest: compute, memory or network."""
    terms = {"compute": self.compute, "memory": self.memory, "network": self.network}
    return max(terms, key=lambda name: terms[name])
