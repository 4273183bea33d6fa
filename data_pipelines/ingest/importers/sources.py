"""Names for the devices of an export that tell a watch from a phone and nothing of their owner."""

from __future__ import annotations

KINDS = ("watch", "phone", "other")
MOST = 9  # numbered devices of a kind; further ones share the last number

DEVICES = tuple(
  kind if number == 1 else f"{kind} {number}" for kind in KINDS for number in range(1, MOST + 1)
)  # the more trusted first: a watch is worn, a phone lies on the table


class Sources:
  """Numbers the sources of each kind as they appear: "watch", "watch 2"."""

  def __init__(self) -> None:
    self._names: dict[tuple[str, str], str] = {}
    self._count = dict.fromkeys(KINDS, 0)

  def name(self, kind: str, source: str) -> str:
    """One of DEVICES for a source of a kind; `source` itself is not kept in it."""
    name = self._names.get((kind, source))
    if name is None:
      self._count[kind] = number = min(self._count[kind] + 1, MOST)
      name = DEVICES[KINDS.index(kind) * MOST + number - 1]
      if number < MOST:
        self._names[kind, source] = name
    return name
