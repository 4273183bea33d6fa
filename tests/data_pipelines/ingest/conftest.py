"""Fixtures for all tests of imports."""

import pytest


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
  """Skips waiting for the disk, which has no effect on what is written."""
  monkeypatch.setattr("os.fsync", lambda file: None)
