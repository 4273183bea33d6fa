"""An object store on this machine that stands for gs://, for tests of whole processes."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

BUCKET = "gs://bucket"


@contextlib.contextmanager
def served(folder) -> Iterator[dict[str, str]]:
  """Serves an empty bucket, BUCKET; yields the environment variables with which programs find it."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  arguments = ["start", "--host=localhost", f"--port={port}", "--default-bucket=bucket", "--in-memory"]
  command = [sys.executable, "-m", "gcp_storage_emulator", *arguments]
  with (folder / "object_store.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
    try:
      _wait_for(port)
      yield {
        "STORAGE_EMULATOR_HOST": f"http://localhost:{port}",  # read by gcsfs
        "TENSORSTORE_GCS_HTTP_URL": f"http://localhost:{port}",  # and by Orbax's arrays
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks Google itself for the kind of the bucket
        "XDG_CACHE_HOME": str(folder / "cache"),
      }
    finally:
      server.kill()


def _wait_for(port: int) -> None:
  deadline = time.monotonic() + 30
  while True:
    try:
      socket.create_connection(("localhost", port), timeout=1).close()
      return
    except OSError:
      if time.monotonic() > deadline:
        raise
      time.sleep(0.05)
