"""Several models trained and scored on the same people, in one table.

`run` is --mode=compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aim.runtime.lazy_exports import lazy_getattr

if TYPE_CHECKING:
  from aim.studies.compare.run import compare
  from aim.studies.compare.table import CompareCell

__all__ = [
  "CompareCell",
  "compare",
]

_MODULES = {
  "CompareCell": "table",
  "compare": "run",
}

# Lazy, as in aim.studies.
__getattr__ = lazy_getattr(__name__, _MODULES)
