"""Index files: PATH.json says that the files of a piece of an import are complete, and what is in them.

An import that was interrupted goes on with its complete pieces. What is on disk may have been damaged since, so an
index holds digests of the files of its piece and of itself; what differs from them is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipelines.digests import FileDigest
from data_pipelines.errors import SchemaError
from data_pipelines.text_files import replacing


def write_index(path: pathlib.Path, content: Mapping[str, Any], files: Sequence[str]) -> None:
  """Writes PATH.json to disk.

  Args:
    path: the piece's files begin with it.
    content: what the index says; JSON-able.
    files: names of the piece's files, which are complete.
  """
  digests = [[name, FileDigest.of(path.with_name(name)).blake2b] for name in files]
  text = json.dumps([digests, content])
  with replacing(_index(path)) as unfinished, unfinished.open("w") as file:
    file.write(f"{_check(text)}\n{text}")
    file.flush()
    os.fsync(file.fileno())


def read_index(path: pathlib.Path) -> dict[str, Any]:
  """Reads the content of PATH.json.

  Raises:
    SchemaError: it is damaged.
  """
  return _read(path)[1]


def is_complete(path: pathlib.Path) -> bool:
  """True if PATH.json has been written, and it and the files of the piece are as they were then."""
  try:
    digests, _ = _read(path)
    return all(FileDigest.of(path.with_name(name)).blake2b == digest for name, digest in digests)
  except (OSError, SchemaError):
    return False


def _read(path: pathlib.Path) -> tuple[list[tuple[str, str]], dict[str, Any]]:
  index = _index(path)
  check, _, text = index.read_text(errors="replace").partition("\n")
  if check != _check(text):
    raise SchemaError(f"{index}: damaged; start the import again")
  digests, content = json.loads(text)
  return digests, content


def _check(text: str) -> str:
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _index(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(f"{path.name}.json")
