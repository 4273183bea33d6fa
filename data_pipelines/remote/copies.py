"""Copies on this machine of folders and files of an object store, fetched once and again only where they changed.

They lie in $XDG_CACHE_HOME/lsm2-aim/remote (by default ~/.cache/...), under a path like the remote one. Libraries that
read by local path, array_record above all, read these copies. Processes of one machine share them: one fetches while
the others wait.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

from data_pipelines.errors import SchemaError
from data_pipelines.progress import progress_bar
from data_pipelines.remote.cache_dir import cache_folder
from data_pipelines.remote.objects import RemoteError, RemoteFile, RemoteFolder, is_remote
from data_pipelines.text_files import counted, parse_json_object, read_text, replace_text, replacing

CONNECTIONS = 8  # files fetched or sent at the same time


def copy_path(url: str | os.PathLike, kind: str = "copies") -> pathlib.Path:
  """Path of the copy of a remote folder or file, whether it exists or not."""
  scheme, _, rest = os.fspath(url).partition("://")
  return cache_folder("remote").joinpath(
    kind, scheme, *(part for part in rest.split("/") if part not in ("", ".", ".."))
  )


@contextlib.contextmanager
def locked(url: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Holds the lock of a remote path among the processes of this machine; yields the file of its state."""
  state = (
    cache_folder("remote") / "state" / f"{hashlib.blake2b(os.fspath(url).encode(), digest_size=16).hexdigest()}.json"
  )
  state.parent.mkdir(parents=True, exist_ok=True)
  with state.with_suffix(".lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel however the process ends
    yield state


def local(path: str | os.PathLike) -> pathlib.Path:
  """A local path as it is; the copy of a remote folder or file, fetched if need be.

  Raises:
    RemoteError: there is no such folder or file, or it cannot be fetched.
  """
  if not is_remote(path):
    return pathlib.Path(path)
  url = os.fspath(path).rstrip("/")
  if RemoteFolder(url).files():
    fetch_folder(url)
  else:
    parent, _, name = url.rpartition("/")
    if not RemoteFolder(parent).exists(name):
      raise RemoteError(f"{url}: no such file or folder")
    fetch_folder(parent, only=(name,))
  return copy_path(url)


def fetch_folder(url: str | os.PathLike, only: Sequence[str] = ()) -> list[str]:
  """Makes the copy of a remote folder equal to it.

  Args:
    url: the remote folder.
    only: names of files; all files of the folder by default.

  Returns:
    Names of the files that were fetched, because they were new or had changed.

  Raises:
    RemoteError: a file cannot be fetched, or the local disk has no room for all.
  """
  remote, folder = RemoteFolder(url), copy_path(url)
  with locked(remote.url) as state:
    files = remote.files()
    files = {name: files[name] for name in only if name in files} if only else files
    known = _read_state(state)
    # A file that is neither known nor here has no state at all.
    stale = [name for name, file in files.items() if known.get(name) != (_state_of(folder / name, file) or [])]
    if not only:
      for name in known.keys() - files.keys():
        (folder / name).unlink(missing_ok=True)
        del known[name]
    if stale:
      _check_room(remote.url, folder, sum(files[name].size for name in stale))
    for name in fetched(remote, {name: files[name] for name in stale}, folder):
      known[name] = _state_of(folder / name, files[name])
      _write_state(state, known)  # at once, so that an interrupted copy goes on where it stopped
  return stale


def fetched(remote: RemoteFolder, files: Mapping[str, RemoteFile], folder: pathlib.Path) -> Iterator[str]:
  """Fetches files of a remote folder; yields the name of each when it is complete.

  Raises:
    RemoteError: a file cannot be fetched, or arrives with another size.
  """
  if files:
    size = sum(file.size for file in files.values())
    print(f"{remote.url}: copying {counted(len(files), 'file')}, {_size_text(size)}, to {folder}", flush=True)
  fetch = lambda name: _fetch(remote, name, files[name], folder / name)
  yield from _in_parallel(fetch, list(files), "copy")


def sent(remote: RemoteFolder, folder: pathlib.Path, names: Sequence[str], show: bool = True) -> Iterator[str]:
  """Sends files of a local folder; yields the name of each when it is complete.

  Raises:
    RemoteError: a file cannot be written.
  """
  yield from _in_parallel(lambda name: remote.send(folder / name, name), names, "upload" if show else None)


def publish(folder: pathlib.Path, url: str | os.PathLike, last: str) -> None:
  """Moves a local folder to a remote one, replacing what is there; the local copy stays for readers on this machine.

  Args:
    folder: the local folder.
    url: the remote folder.
    last: name of the file that says that the others are complete: it is removed first and written last.

  Raises:
    RemoteError: the store cannot be written.
  """
  remote, place = RemoteFolder(url), copy_path(url)
  with locked(remote.url) as state:
    before = remote.files()
    remote.remove([last] if last in before else [])
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for _ in sent(remote, folder, [name for name in names if name != last]):
      pass
    remote.remove([name for name in before if name not in names])
    remote.send(folder / last, last)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, place)
    _write_state(state, {name: _state_of(place / name, file) for name, file in remote.files().items()})


@contextlib.contextmanager
def output(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """A local path to write a file to; a remote `path` gets the file when the block ends without an error.

  Raises:
    RemoteError: the store cannot be written; raised before the block too.
  """
  if not is_remote(path):
    yield pathlib.Path(path)
    return
  parent, _, name = os.fspath(path).rpartition("/")
  remote = RemoteFolder(parent)
  remote.check_writable()
  with tempfile.TemporaryDirectory() as folder:
    yield pathlib.Path(folder, name)
    remote.send(pathlib.Path(folder, name), name)
  print(f"{path}: written")


def _in_parallel(work: Callable[[str], None], names: Sequence[str], description: str | None) -> Iterator[str]:
  """Calls work(name) for names, several at a time; yields each name that is done, and raises the first error last."""
  errors: list[BaseException] = []
  pool = concurrent.futures.ThreadPoolExecutor(CONNECTIONS)
  try:
    futures = {pool.submit(work, name): name for name in names}
    with progress_bar(len(names), description or "", "file", disable=description is None or len(names) < 2) as bar:
      for future in concurrent.futures.as_completed(futures):
        if not future.cancelled() and (error := future.exception()):
          errors.append(error)
          for other in futures:
            other.cancel()
        elif not future.cancelled():
          bar.update()
          yield futures[future]
  finally:
    pool.shutdown(cancel_futures=True)
  if errors:
    raise errors[0]


def _fetch(remote: RemoteFolder, name: str, file: RemoteFile, path: pathlib.Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with replacing(path) as unfinished:
    remote.fetch(name, unfinished)
    size = unfinished.stat().st_size
    if size != file.size:
      raise RemoteError(f"{remote.url}/{name}: {size:,} bytes arrived, expected {file.size:,}; repeat the command")


def _check_room(url: str, folder: pathlib.Path, needed: int) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise RemoteError(
      f"{url}: its copy needs {_size_text(needed)}, and {folder} has {_size_text(free)} free; "
      "XDG_CACHE_HOME names another folder for copies"
    )


def _state_of(path: pathlib.Path, file: RemoteFile) -> list[str | int] | None:
  """Version, size and modification time of a file that was fetched; None if it is not here."""
  try:
    found = path.stat()
  except OSError:
    return None
  return [file.version, found.st_size, found.st_mtime_ns]


def _read_state(path: pathlib.Path) -> dict[str, list[str | int] | None]:
  try:
    return parse_json_object(read_text(path), str(path))
  except SchemaError:  # absent or incomplete: everything is fetched again
    return {}


def _write_state(path: pathlib.Path, state: Mapping[str, object]) -> None:
  replace_text(path, json.dumps(state))


def _size_text(size: float) -> str:
  return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
