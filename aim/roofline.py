"""The least time of a step: what its arithmetic, its memory traffic and its exchanges take at full speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aim.collectives import Collective
from aim.devices import Device


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Seconds of a step that each of three resources takes alone; all at once at best (Williams et al. 2009)."""

  compute: float
  memory: float
  network: float

  @classmethod
  def of(
    cls, device: Device, flops: float, moved: float, collectives: Sequence[Collective], box: int | None
  ) -> Roofline:
    """flops, moved: FLOPs and bytes of memory traffic of one device in a step."""
    network = sum(collective.seconds(device, box) for collective in collectives)
    return cls(flops / device.flops, moved / device.bandwidth, network)

  @property
  def seconds(self) -> float:
    return max(self.compute, self.memory, self.network)

  @property
  def limit(self) -> str:
    """What takes longest."""
    terms = {"compute": self.compute, "memory": self.memory, "network": self.network}
    return max(terms, key=lambda name: terms[name])
