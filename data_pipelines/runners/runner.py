"""The protocol of runners, and the runner that does all work in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Report = Callable[[int], object]  # called with an amount of work that has just been done, for a progress bar
Work = Callable[[Item, Report], Result]


class Runner(Protocol):
  """Does a piece of work for each of several items, and yields the results in the order of the items.

  Work and items are picklable. Items depend neither on the runner nor on one another, so that every runner gives the
  same results. Work may be done more than once for an item, and at the same time, as on a cluster that lost a worker:
  what it writes must appear in one piece.
  """

  def __call__(self, work: Work[Item, Result], items: Sequence[Item], report: Report) -> Generator[Result]: ...


def in_this_process(work: Work[Item, Result], items: Sequence[Item], report: Report) -> Generator[Result]:
  """The runner that does one piece of work after the other in this process."""
  for item in items:
    yield work(item, report)


def counted(work: Work[Item, Result], item: Item) -> tuple[Result, int]:
  """The result of a piece of work, and the amount that it reported; runners that work elsewhere report it later."""
  amount = 0

  def report(done: int) -> None:
    nonlocal amount
    amount += done

  return work(item, report), amount
