"""Progress bars, shown by the first process only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

import data_pipelines.progress
from aim.runtime import processes
from aim.runtime.compile_time import compile_seconds

T = TypeVar("T")


class _WorkBar(tqdm):
  """A bar whose estimate of the time that is left leaves out the time spent on compiling, which does not come again."""

  def __init__(self, *args: Any, **kwargs: Any) -> None:
    super().__init__(*args, **kwargs)
    self._compiled = compile_seconds()

  def update(self, n: float | None = 1) -> bool | None:
    """As of tqdm."""
    before, self._compiled = self._compiled, compile_seconds()
    if not self.disable:
      self.last_print_t += self._compiled - before
    return super().update(n)


def tracked(items: Sequence[T], description: str, unit: str) -> Iterator[T]:
  """The items one after the other, with a progress bar that counts them."""
  with progress_bar(len(items), description, unit) as bar:
    for item in items:
      yield item
      bar.update()


def progress_bar(
  total: int, description: str, unit: str, initial: int = 0, disable: bool = False, of_compiling: bool = False
) -> tqdm:
  """The progress bar of data_pipelines.progress, shown by the first process only.

  Programs of aim use this one, because they may run as several processes, of which all but the first stay silent, and
  because they compile before their first unit of work.

  Args:
    total: units of work.
    description: what is being done.
    unit: name of one unit.
    initial: units done before.
    disable: show nothing.
    of_compiling: whether compiling is the work; otherwise the estimate of the time left does without it.
  """
  hidden = disable or not processes.is_first_process()
  return data_pipelines.progress.progress_bar(
    total, description, unit, initial, hidden, tqdm if of_compiling else _WorkBar
  )
