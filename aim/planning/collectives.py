"""What a compiled program sends over the network, read from its optimised HLO, and the roofline of a step."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from aim.runtime.devices import DataSheet

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_INSTRUCTION = re.compile(rf" = (?P<type>.*?) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\((?P<rest>.*)")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[^\s(]+) \(.*\{$")
_CALL = re.compile(r"(?:calls|to_apply|body|called_computations=\{|branch_computations=\{)=?\{?%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"\b(pred|[a-z]+[0-9]+[a-z0-9]*)\[([\d,]*)\]")


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


def read(hlo: str, devices: int) -> list[Collective]:
  """The collectives of a step, equal ones together, the largest in total first.

  A collective in a loop counts as often as the loop runs, if the program says how often that is.

  Args:
    hlo: text of an optimised HLO module.
    devices: number of devices that it was compiled for.
  """
  computations, entry = _computations(hlo)
  counts: dict[tuple[str, int, tuple[int, ...]], int] = {}
  for kind, size, group, times in _walk(computations, entry, 1, devices):
    counts[kind, size, group] = counts.get((kind, size, group), 0) + times
  collectives = [Collective(kind, count, size, group) for (kind, size, group), count in counts.items()]
  return sorted(collectives, key=lambda collective: -collective.count * collective.bytes)


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
  """The lines of each computation, and the name of the entry computation."""
  lines: dict[str, list[str]] = {}
  entry, name = "", ""
  for line in hlo.splitlines():
    if header := _COMPUTATION.match(line):
      name = header["name"]
      lines[name] = []
      entry = name if header["entry"] else entry
    elif name and line.startswith(" "):
      lines[name].append(line)
  return lines, entry


def _walk(
  computations: dict[str, list[str]], name: str, times: int, devices: int
) -> Iterator[tuple[str, int, tuple[int, ...], int]]:
  for line in computations.get(name, ()):
    if match := _INSTRUCTION.search(line):
      group = _group(match["rest"], devices)
      size = _bytes(match["type"], match["kind"], bool(match["start"])) * (
        len(group) if match["kind"] == "reduce-scatter" else 1
      )
      if len(group) > 1:
        yield match["kind"], size, group, times
      continue
    trips = _TRIPS.search(line)
    for called in _CALL.findall(line):
      yield from _walk(computations, called, times * (int(trips[1]) if trips else 1), devices)


def _bytes(shape: str, kind: str, start: bool) -> int:
  """Size of the results. An asynchronous start returns operands and results, but an all-reduce only results."""
  arrays = [(name, tuple(map(int, filter(None, dims.split(","))))) for name, dims in _ARRAY.findall(shape)]
  if start and kind != "all-reduce":
    arrays = [array for array in arrays if array != ("u32", ())]  # the progress of a permutation
    arrays = arrays[len(arrays) // 2 :]
  return sum(math.ceil(_bits(name) * math.prod(dims) / 8) for name, dims in arrays)


def _bits(name: str) -> int:
  digits = re.match(r"[a-z]+(\d+)", name)
  return int(digits[1]) if digits else 8  # pred


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
