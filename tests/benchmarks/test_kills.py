"""benchmarks/kills.py, with few kills: a run that is killed anywhere ends as if it had not been."""

import sys

import pytest

from benchmarks import kills
from tests import tiny


@pytest.mark.slow
def test_three_kills(tmp_path, monkeypatch):
  for name, value in tiny.environment().items():
    monkeypatch.setenv(name, value)
  dataset = tiny.dataset(tmp_path)
  flags = tiny.overrides(total_steps=1500, checkpoint__every_steps=20)
  command = [sys.executable, "-m", "aim.main", f"--config={tiny.CONFIG}", *tiny.on(dataset), *flags]
  killed = kills.trial(command, tmp_path, 1500, 3, seed=1)
  assert [kill.kill for kill in killed] == [1, 2, 3]
  assert all(kill.redone <= kill.told for kill in killed) and max(kill.told for kill in killed) > 0
