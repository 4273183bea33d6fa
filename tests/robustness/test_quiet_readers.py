"""A Python program that reads a damaged checkpoint gets one error and nothing else on its standard error."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import zipfile

import pytest

from tests import tiny

READ = """
import gc, pathlib, sys
import aim
for path in sys.argv[2:]:
  file = pathlib.Path(path)
  whole = file.read_bytes()
  middle = len(whole) // 2
  for raw in (whole[:middle], b"", whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1:]):
    file.write_bytes(raw)
    for _ in range(3):
      try:
        aim.load(sys.argv[1])
        print("loaded")
      except ValueError as error:
        print("refused")
  file.write_bytes(whole)
gc.collect()
aim.load(sys.argv[1])
"""


@pytest.mark.slow
def test_nothing_but_the_error(tmp_path):
  with zipfile.ZipFile(pathlib.Path(__file__).parents[1] / "golden/checkpoints/0.1.0/lsm2.zip") as archive:
    archive.extractall(tmp_path)
  step = tmp_path / "checkpoints" / "2"
  files = [next((step / "ema" / "d").iterdir()), step / "ema" / "manifest.ocdbt"]
  ended = subprocess.run(
    [sys.executable, "-c", READ, str(tmp_path), *map(str, files)],
    cwd=tiny.ROOT, env=tiny.environment(), capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  assert ended.returncode == 0, ended.stderr
  assert ended.stderr == ""
  assert ended.stdout.count("refused") >= 17
