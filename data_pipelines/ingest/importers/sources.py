"""Device names that distinguish a watch from a phone and say nothing about the owner."""

from __future__ import annotations

KINDS = ("watch", "phone", "other")
MOST = 9  # numbered devices per kind; further ones share the last number

DEVICES = tuple(
  kind if number == 1 else f"{kind} {number}" for kind in KINDS for number in range(1, MOST + 1)
)  # most trusted first: a watch is worn, while a phone may lie on a table


class Sources:
  """Numbers the sources of each kind in order of appearance: "watch", "watch 2"."""

  def __init__(self) -> None:
    self._names: dict[tuple[str, str], str] = {}
    self._count = dict.fromkeys(KINDS, 0)

  def name(self, kind: str, source: str) -> str:
    """Returns one of DEVICES for this source. The name does not contain `source`, which may hold the owner's name."""
    name = self._names.get((kind, source))
    if name is None:
      self._count[kind] = number = min(self._count[kind] + 1, MOST)
      name = DEVICES[KINDS.index(kind) * MOST + number - 1]
      if number < MOST:
        self._names[kind, source] = name
    return name
