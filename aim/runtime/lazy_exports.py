"""Names that a room re-exports without importing their modules, because importing jax takes seconds."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_getattr(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
  """The `__getattr__` (PEP 562) of a package that imports a name's module when the name is first used.

  Args:
    package: its full name, `__name__` there.
    modules: {name: module of the package that defines it}.
  """

  def getattr_of_package(name: str) -> Any:
    if name in modules:
      return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")

  return getattr_of_package
