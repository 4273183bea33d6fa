"""Checks of where results will go, before hours of computing rather than after them."""

from __future__ import annotations

import os
import pathlib
import tempfile

from aim.common.config_files import ConfigError


def check_folder(folder: str | pathlib.Path, flag: str) -> None:
  """Makes a folder in which results will be written.

  Args:
    folder: the folder.
    flag: what named it, such as "--workdir=runs/x"; begins the message.

  Raises:
    ConfigError: it cannot be made, or nothing can be written there.
  """
  try:
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
      file.write(b"\0")
  except OSError as error:
    raise ConfigError(f"{flag}: cannot write to {folder}: {error.strerror}") from None


def check_file(path: str | pathlib.Path, flag: str) -> None:
  """Makes the folder of a file that will be written.

  Raises:
    ConfigError: the folder cannot be made or written, or the path is something else than a file.
  """
  check_folder(pathlib.Path(path).parent, flag)
  if os.path.isdir(path):
    raise ConfigError(f"{flag}: is a folder, expected a file to write")
  if os.path.exists(path) and not os.path.isfile(path):
    raise ConfigError(f"{flag}: is a device or a pipe, expected a file to write")
