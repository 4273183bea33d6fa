"""Versions of installed packages."""

from __future__ import annotations

import importlib.metadata


def installed_version(package: str) -> str:
  """The version of an installed package; "unknown" in a clone that was never installed."""
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "unknown"
