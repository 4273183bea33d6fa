"""Files of an object store (gs://, s3://, az://, memory://, ...), reached through fsspec, with errors of one line."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.errors import UserError, first_line

# The optional part of this package (setup.py) that installs the backend of a scheme.
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")
_ONE_SLASH = re.compile(r"(gs|gcs|s3|s3a|az|abfss?|adl|memory|https?|hdfs|webhdfs|file|sftp|ssh|smb|ftp):/(?!/)")
# Schemes of file systems, in which a folder must exist before a file in it; an object store has no folders.
_WITH_FOLDERS = ("file", "local", "sftp", "ssh", "smb", "ftp", "hdfs", "webhdfs")
# What backends report about an object that changes whenever the object does.
_VERSION_KEYS = ("generation", "etag", "ETag", "md5Hash", "mtime", "LastModified", "last_modified", "created", "size")

PATIENCE = 5.0  # seconds without an answer after which one line says what is waited for

# They log the stacks of errors that they also raise.
_BACKEND_LOGGERS = ("fsspec", "gcsfs")


class RemoteError(UserError):
  """A file of an object store cannot be read or written."""


def is_remote(path: str | os.PathLike) -> bool:
  """True if a path has a scheme, such as gs://, and is therefore no local path.

  Raises:
    RemoteError: it begins like gs:/bucket, which would be a local folder named "gs:".
  """
  return scheme(path) is not None


def scheme(path: str | os.PathLike) -> str | None:
  """The "gs" of gs://bucket/folder; None for a local path.

  Raises:
    RemoteError: it begins like gs:/bucket, with one slash.
  """
  text = os.fspath(path)
  if slip := _ONE_SLASH.match(text):
    raise RemoteError(f"{text}: did you mean {slip[1]}://{text[slip.end() :]}? A remote path has two slashes")
  match = _SCHEME.match(text)
  return match[1] if match else None


@dataclasses.dataclass(frozen=True)
class RemoteFile:
  """Size and version of a file in an object store.

  Attributes:
    size: in bytes.
    version: text that changes whenever the file does.
  """

  size: int
  version: str


class RemoteFolder:
  """A folder of an object store; names of files are relative to it, with "/" between folders.

  Attributes:
    url: the folder, without a slash at its end.
  """

  def __init__(self, url: str | os.PathLike):
    """Connects to nothing yet.

    Raises:
      RemoteError: the package for this scheme is not installed, or there is none.
    """
    self.url = os.fspath(url).rstrip("/")
    import fsspec

    for name in _BACKEND_LOGGERS:
      if logging.getLogger(name).level == logging.NOTSET:  # nobody has asked for what it logs
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in ("gs", "gcs", "s3"):  # what Orbax has listed once must not hide what was written since
      fsspec.config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)
    try:
      self._files, root = fsspec.core.url_to_fs(self.url)
    except ImportError as error:
      extra = _EXTRAS.get(scheme(url) or "")
      remedy = f"pip install 'lsm2-aim[{extra}]'" if extra else first_line(error, 300)
      raise RemoteError(f"{self.url}: a package for {scheme(url)}:// is not installed: {remedy}") from None
    except Exception as error:  # an unknown scheme, or credentials that are wrong in form
      raise RemoteError(f"{self.url}: {first_line(error, 300)}") from None
    self._root = root.rstrip("/")

  def folder(self, name: str) -> RemoteFolder:
    """A folder below this one."""
    return RemoteFolder(f"{self.url}/{name}")

  def files(self) -> dict[str, RemoteFile]:
    """{name: file} of all files below this folder, sorted; {} where there are none.

    Raises:
      RemoteError: they cannot be listed.
    """
    with self._one_line("listed"):
      self._files.invalidate_cache()
      found = self._files.find(self._root, detail=True)
    names = {path[len(self._root) + 1 :]: info for path, info in found.items()}
    # Some tools mark a folder by an empty object whose name ends in a slash.
    return {name: _described(names[name]) for name in sorted(names) if name and not name.endswith("/")}

  def children(self) -> list[str]:
    """Names of the files and folders directly in this folder, sorted.

    Raises:
      RemoteError: they cannot be listed.
    """
    with self._one_line("listed"):
      self._files.invalidate_cache()
      try:
        paths = self._files.ls(self._root, detail=False)
      except FileNotFoundError:
        return []
    return sorted({path.rstrip("/").rsplit("/", 1)[-1] for path in paths if path.rstrip("/") != self._root})

  def exists(self, name: str) -> bool:
    """True if there is a file of this name.

    Raises:
      RemoteError: the store cannot be reached.
    """
    with self._one_line("read", name):
      self._files.invalidate_cache()
      return self._files.isfile(f"{self._root}/{name}")

  def read(self, name: str) -> bytes | None:
    """The content of a file; None where there is no such file.

    Raises:
      RemoteError: it cannot be read.
    """
    with self._one_line("read", name):
      try:
        return self._files.cat_file(f"{self._root}/{name}")
      except FileNotFoundError:
        return None

  def write(self, name: str, content: bytes) -> None:
    """Writes a file in one piece.

    Raises:
      RemoteError: it cannot be written.
    """
    with self._one_line("written", name):
      self._make_folder_of(name)
      self._files.pipe_file(f"{self._root}/{name}", content)

  def fetch(self, name: str, path: str | os.PathLike) -> None:
    """Copies a file of this folder to a local path.

    Raises:
      RemoteError: it cannot be read, or the local disk is full.
    """
    with self._one_line("copied to this machine", name, transfer=True):
      self._files.get_file(f"{self._root}/{name}", os.fspath(path))

  def send(self, path: str | os.PathLike, name: str) -> None:
    """Copies a local file into this folder; it appears complete or not at all.

    Raises:
      RemoteError: it cannot be written.
    """
    with self._one_line("written", name, transfer=True):
      self._make_folder_of(name)
      self._files.put_file(os.fspath(path), f"{self._root}/{name}")

  def remove(self, names: Sequence[str]) -> None:
    """Removes files; those that are gone already do not matter.

    Raises:
      RemoteError: one cannot be removed.
    """
    for name in names:
      with self._one_line("removed", name), contextlib.suppress(FileNotFoundError):
        self._files.rm_file(f"{self._root}/{name}")

  def check_writable(self) -> None:
    """Writes and removes a small file; better before hours of work than after them.

    Raises:
      RemoteError: there is no such bucket, no permission, or no connection.
    """
    name = ".write_test"  # always the same, so that a killed process leaves one at most, and the next one removes it
    self.write(name, b"")
    self.remove([name])

  def _make_folder_of(self, name: str) -> None:
    if scheme(self.url) in _WITH_FOLDERS:
      self._files.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)

  @contextlib.contextmanager
  def _one_line(self, done: str, name: str = "", transfer: bool = False) -> Iterator[None]:
    """Turns whatever a backend raises into a RemoteError; each backend has kinds of errors of its own.

    Backends try again for about a minute before they raise anything, so a wait is reported, but not that of a transfer,
    which may take long because a file is large.
    """
    where = f"{self.url}/{name}" if name else self.url
    patience = threading.Timer(PATIENCE, print, [f"{where}: no answer yet; trying again for about a minute"])
    patience.daemon = True
    if not transfer:
      patience.start()
    try:
      yield
    except Exception as error:
      raise RemoteError(f"{where}: cannot be {done}: {_reason(error)}") from None
    finally:
      patience.cancel()


def _described(info: dict[str, Any]) -> RemoteFile:
  version = [str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None]
  return RemoteFile(int(info.get("size") or 0), " ".join(version))


def _reason(error: Exception) -> str:
  if isinstance(error, FileNotFoundError):
    return f"no such bucket or file ({first_line(error, 300)})"
  if isinstance(error, PermissionError):
    return f"no permission ({first_line(error, 300)})"
  return first_line(error, 300)
