"""Seconds from an export to a filled, embedded, drawn page: `--mode=report --input` in a process of its own.

python -m benchmarks.my_days --checkpoint=NAME_OR_PATH [--days=30] [--cores=2]

The export is a made-up Fitbit Takeout: heart rate every ten seconds and steps every minute, with hours lost. The first
run compiles into an empty cache, as after an installation; the second one finds its programs there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np


def write_export(path: pathlib.Path, days: int) -> None:
  """Writes a Takeout of so many days."""
  rng, folder = np.random.default_rng(0), "Takeout/Fitbit/Global Export Data"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
    for day in range(days):
      date = datetime.datetime(2020, 6, 1) + datetime.timedelta(day)
      heart, walked = [], []
      lost = rng.uniform(6, 20)
      for minute in range(1440):
        hour = minute / 60
        if lost < hour < lost + 2:
          continue
        awake = max(0.0, np.sin((hour - 7) / 16 * np.pi)) if 7 < hour < 23 else 0.0
        steps = int(rng.poisson(30 * awake)) if rng.random() < awake / 2 else 0
        for second in range(0, 60, 10):
          at = date + datetime.timedelta(minutes=minute, seconds=second)
          value = {"bpm": int(58 + 25 * awake + 0.3 * steps + rng.normal(0, 2)), "confidence": 2}
          heart.append({"dateTime": f"{at:%m/%d/%y %H:%M:%S}", "value": value})
        walked.append(
          {"dateTime": f"{date + datetime.timedelta(minutes=minute):%m/%d/%y %H:%M:%S}", "value": str(steps)}
        )
      file.writestr(f"{folder}/heart_rate-{date:%Y-%m-%d}.json", json.dumps(heart))
      file.writestr(f"{folder}/steps-{date:%Y-%m-%d}.json", json.dumps(walked))


def main() -> None:
  """Makes the export, and runs the command twice."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--checkpoint", required=True)
  parser.add_argument("--days", type=int, default=30)
  parser.add_argument("--cores", type=int, default=2)
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    export = pathlib.Path(folder, "takeout.zip")
    write_export(export, options.days)
    environ = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
    flags = ["--mode=report", f"--checkpoint={options.checkpoint}", f"--input={export}", "--timezone=Europe/Berlin"]
    command = [sys.executable, "-m", "aim.main", *flags, f"--output={folder}/page"]
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    for name in ("first run", "second run"):
      started = time.monotonic()
      subprocess.run(
        command, check=True, env=environ, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, cores)
      )
      seconds = time.monotonic() - started
      page = pathlib.Path(folder, "page", "index.html").stat().st_size
      print(f"{name}: {options.days} days, {len(cores)} cores: {seconds:.1f} s, page {page / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
  main()
