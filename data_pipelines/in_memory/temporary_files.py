"""A folder for the files that stand for what a caller has in memory, and what messages call them."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

from data_pipelines.errors import UserError


@contextlib.contextmanager
def temporary_files(**names: str) -> Iterator[dict[str, pathlib.Path]]:
  """Yields a path for each name of a file, in a folder that is gone afterwards.

  Args:
    names: {what the file stands for: its name}. In messages of errors, the first is in the place of its path.
  """
  with tempfile.TemporaryDirectory() as folder:
    paths = {what: pathlib.Path(folder) / name for what, name in names.items()}
    try:
      yield paths
    except UserError as error:
      text = str(error)
      for what, path in paths.items():
        text = text.replace(str(path), what)
      error.args = (text,)
      raise
