"""JAX's cache of compiled programs, with a digest on every entry: a damaged one is compiled again and replaced.

JAX by itself warns about an entry cut short in every later run and never replaces it, and notices a changed bit only
where the compression happens to have a checksum.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import Any

import jax

from data_pipelines.remote.cache_dir import cache_folder

FOLDER = "checked"  # in JAX's folder, which other programs may share: entries with a digest are of no use to them
_BYTES = 16


def use() -> None:
  """Keeps compiled programs between runs, in the user's cache folder or in JAX_COMPILATION_CACHE_DIR."""
  if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    jax.config.update("jax_compilation_cache_dir", str(cache_folder("xla")))
  try:
    from jax._src import compilation_cache
    from jax._src.lru_cache import LRUCache
  except ImportError:  # another version of JAX has them elsewhere: its cache then stays as it is
    return

  class CheckedCache(LRUCache):
    """A cache folder whose entries end in a digest."""

    def get(self, key: str) -> bytes | None:
      """The entry, or None if there is none, or a damaged one, which is removed."""
      stored = super().get(key)
      if stored is None or stored[-_BYTES:] == _digest(stored[:-_BYTES]):
        return stored and stored[:-_BYTES]
      for path in self.path.glob(f"{key}-*"):
        path.unlink(missing_ok=True)
      print(f"note: {self.path}: a compiled program was damaged; compiled again and replaced", file=sys.stderr)
      return None

    def put(self, key: str, value: bytes) -> None:
      """Stores an entry, unless there is one."""
      super().put(key, value + _digest(value))

  def checked(path: str) -> tuple[Any, str]:
    folder = f"{path}/{FOLDER}"
    return CheckedCache(folder, max_size=jax.config.jax_compilation_cache_max_size), folder  # type: ignore[attr-defined]

  if hasattr(compilation_cache, "get_file_cache"):
    compilation_cache.get_file_cache = checked


def _digest(value: bytes) -> bytes:
  return hashlib.blake2b(value, digest_size=_BYTES).digest()
