"""A fixture for tests of figures."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
  """The figures saved during the test."""
  seen: list[Figure] = []
  save = Figure.savefig
  monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: (seen.append(self), save(self, *args, **kwargs)))
  return seen
