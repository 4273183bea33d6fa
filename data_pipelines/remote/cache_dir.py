"""The project's cache folder, for what can be made again, such as compiled programs and copies of remote files.

That is $XDG_CACHE_HOME/lsm2-aim, by default ~/.cache/lsm2-aim.
"""

from __future__ import annotations

import os
import pathlib


def cache_folder(name: str) -> pathlib.Path:
  """The path of the cache folder `name`; it is not created here."""
  root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
  return root / "lsm2-aim" / name
