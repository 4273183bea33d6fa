"""benchmarks/kills.py with few kills: a run that is killed anywhere ends as if it had not been."""

import csv
import subprocess
import sys

import pytest

from tests import tiny


@pytest.mark.slow
def test_three_kills(tmp_path):
  output = tmp_path / "kills.csv"
  command = [sys.executable, "-m", "benchmarks.kills", "--kills=3", "--steps=600", "--seed=1", f"--output={output}"]
  done = subprocess.run(command, cwd=tiny.ROOT, env=tiny.environment(), capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  rows = list(csv.DictReader(output.open()))
  assert [row["kill"] for row in rows] == ["1", "2", "3"]
  assert all(int(row["redone"]) <= int(row["told"]) for row in rows) and max(int(row["told"]) for row in rows) > 0
  assert "all 600 lines of metrics and all arrays equal to the bit" in done.stdout
