"""Output paths: checked before hours of computing rather than after them, and named when writing fails."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterator, Sequence

from aim.common.config_files import ConfigError
from data_pipelines import text_files


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


def check_not_input(path: str | pathlib.Path, flag: str, source: str | pathlib.Path, source_flag: str) -> None:
  """Checks that a file that will be written is not what is read, under whatever name or link, nor inside it.

  Raises:
    ConfigError: it is.
  """
  if not os.path.exists(source):  # reading it says so
    return
  inside = os.path.isdir(source) and pathlib.Path(path).resolve().is_relative_to(pathlib.Path(source).resolve())
  if inside or (os.path.exists(path) and os.path.samefile(path, source)):
    what = "is inside" if inside else "is the same file as"
    raise ConfigError(f"{flag}: {what} {source_flag}, which it would overwrite; expected another file")


@contextlib.contextmanager
def replaced_together(folder: str | pathlib.Path, names: Sequence[str]) -> Iterator[pathlib.Path]:
  """A folder to write files to, which take the place of those in `folder` once all of them are written.

  The old ones are removed before the first new one gets its name: a process that is killed there leaves too few files,
  never files of two results. What such a process has not put in place is removed by the next one. Other files in
  `folder` stay as they are, and links stay links to what they point to.

  Args:
    folder: exists; nothing in it changes if the block ends with an error.
    names: of the files; the first one, which a reader opens, is the last to appear.
  """
  places = {name: pathlib.Path(folder, name).resolve() for name in names}
  remove_unfinished(folder)
  new = pathlib.Path(folder, f"{uuid.uuid4().hex}.new")  # inside, as the folder may be a mount point
  with text_files.unfinished(new, folder=True):
    yield new
    for place in places.values():
      place.unlink(missing_ok=True)
    for name in reversed(names):
      (new / name).rename(places[name])


def remove_unfinished(folder: str | pathlib.Path) -> None:
  """Removes the files that killed processes have left in a folder whose files they were to replace together."""
  text_files.remove_abandoned(pathlib.Path(folder), text_files.UNFINISHED.removeprefix(r"\."))


@contextlib.contextmanager
def naming(flag: str) -> Iterator[None]:
  """Turns a failure to write, such as of a full disk, into one line that names the output.

  Raises:
    ConfigError: writing failed.
  """
  try:
    yield
  except BrokenPipeError:  # standard output, which nobody reads any more
    raise
  except OSError as error:
    reason = error.strerror or (str(error).splitlines() or ["unknown"])[0]
    raise ConfigError(f"{flag}: cannot be written: {reason}") from error
