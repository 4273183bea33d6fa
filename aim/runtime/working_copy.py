"""A workdir in an object store: the program works in a folder of this machine that is kept equal to the remote one.

An object store can neither append nor rename, and figures, npz files or TensorBoard want a local name. So a run gets a
local folder: what the remote workdir holds is fetched into it, and what the run writes is uploaded every few seconds,
before each checkpoint, and at the end. Checkpoints of a workdir on gs:// are the exception: Orbax writes them there
itself, from every process, and readers fetch the one that they need.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast

from aim.runtime import processes
from data_pipelines.errors import UserError
from data_pipelines.remote import copies
from data_pipelines.remote.objects import RemoteError, RemoteFolder, scheme
from data_pipelines.text_files import parse_json_object

UPLOAD_SECONDS = 10.0
CHECKPOINTS = "checkpoints"
IN_USE = "in_use.json"  # in the remote workdir: who trains there
DIRECT = "gs"  # the scheme that Orbax itself writes to

_open_copies: list[WorkingCopy] = []  # of this process


class WorkingCopy:
  """A remote workdir and the local folder that stands for it.

  Attributes:
    remote: the workdir.
    folder: the local folder.
    with_checkpoints: whether checkpoints are part of the copy.
  """

  def __init__(self, url: str, folder: pathlib.Path, with_checkpoints: bool):
    """Does nothing yet; one process of all calls uploaded(), and one process of every other machine fetch()."""
    self.remote, self.folder, self.with_checkpoints = RemoteFolder(url), folder, with_checkpoints
    self._sent: dict[str, tuple[int, int]] = {}
    self._turn = threading.Lock()
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._upload_regularly, daemon=True)
    self._mark: _InUse | None = None

  def fetch(self) -> None:
    """Makes the local folder equal to the remote one.

    Raises:
      RemoteError: the store cannot be read.
    """
    shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
    self.folder.mkdir(parents=True)
    files = {name: file for name, file in self.remote.files().items() if self._is_part(name)}
    for _ in copies.fetched(self.remote, files, self.folder):
      pass
    self._sent = self._scan()

  @contextlib.contextmanager
  def uploaded(self, exclusive: bool) -> Iterator[None]:
    """Fetches the remote workdir, then uploads what changes until the block ends, however it ends.

    Args:
      exclusive: whether no other run may have the workdir in use.

    Raises:
      RemoteError: the store cannot be read or written, or another run is using the workdir.
    """
    self.remote.check_writable()
    if exclusive:
      self._mark = _InUse(self.remote)
    try:
      self.fetch()
    except RemoteError:
      if self._mark:
        self._mark.release()
      raise
    self._thread.start()
    try:
      yield
    except BaseException:
      try:
        self._stop()
      except RemoteError as error:
        print(f"error: {error}", file=sys.stderr)  # the reason why the block ended is raised
      raise
    self._stop()

  def upload(self) -> None:
    """Uploads what has changed since the last time, and removes what is gone.

    Raises:
      RemoteError: the store cannot be written, or another run has taken over the workdir.
    """
    with self._turn:
      if self._mark:
        self._mark.renew()
      seen = self._scan()
      changed = [name for name, stamp in seen.items() if self._sent.get(name) != stamp]
      # A checkpoint says that all was written up to its step, so everything else goes first.
      for name in sorted(changed, key=lambda name: CHECKPOINTS in name.split("/")):
        try:
          self.remote.send(self.folder / name, name)
        except RemoteError:
          if (self.folder / name).exists():  # otherwise it was removed in the meantime
            raise
        else:
          self._sent[name] = seen[name]
      gone = [name for name in self._sent if name not in seen]
      self.remote.remove(gone)
      for name in gone:
        del self._sent[name]

  @property
  def is_uploaded(self) -> bool:
    """True if this process uploads what changes."""
    return self._thread.is_alive()

  def _stop(self) -> None:
    """Uploads the rest and removes the local folder.

    Raises:
      RemoteError: the store cannot be written; the message says where the files remain.
    """
    self._end.set()
    self._thread.join()
    try:
      self.upload()
      if self._mark:
        self._mark.release()
    except RemoteError as error:
      kept = self.folder.with_name(f"{self.folder.name}.not_uploaded.{int(time.time())}")
      self.folder.rename(kept)
      raise RemoteError(f"{error}; what was not uploaded is in {kept}") from None
    shutil.rmtree(self.folder, ignore_errors=True)

  def _is_part(self, name: str) -> bool:
    if name == IN_USE or name.endswith((".new", ".lock")):
      return False
    folders = name.split("/")
    if folders[0] == CHECKPOINTS and not self.with_checkpoints:
      return False
    # A save in progress is STEP.SUFFIX until it is complete.
    after = folders[folders.index(CHECKPOINTS) + 1] if CHECKPOINTS in folders[:-1] else ""
    stem, _, suffix = after.partition(".")
    return not (stem.isdigit() and suffix and suffix != "damaged")

  def _scan(self) -> dict[str, tuple[int, int]]:
    """{name: (size, time of the last change)} of the local files that belong into the remote workdir."""
    seen = {}
    for path in sorted(self.folder.rglob("*")):
      name = path.relative_to(self.folder).as_posix()
      with contextlib.suppress(OSError):  # removed in the meantime
        if self._is_part(name) and path.is_file():
          stat = path.stat()
          seen[name] = (stat.st_size, stat.st_mtime_ns)
    return seen

  def _upload_regularly(self) -> None:
    warned = ""
    while not self._end.wait(UPLOAD_SECONDS):
      try:
        self.upload()
      except UserError as error:  # a network that is gone for a while must not end the run
        if str(error) != warned:
          print(f"warning: {error}; trying again every {UPLOAD_SECONDS:g} s", file=sys.stderr)
        warned = str(error)


class _InUse:
  """The mark of a run that trains in a remote workdir, renewed as long as the run lives."""

  def __init__(self, remote: RemoteFolder):
    """Leaves the mark.

    Raises:
      RemoteError: another run, which is alive, has left one.
    """
    self._remote, self._turn = remote, 0
    self._holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    before = remote.read(IN_USE)
    if before and not _has_ended(_parsed(before)):
      print(f"{remote.url}: {_described(_parsed(before))}; looking whether it is still running", flush=True)
      end = time.monotonic() + 3 * UPLOAD_SECONDS
      while time.monotonic() < end and (now := remote.read(IN_USE)):
        if now != before:
          raise RemoteError(f"{remote.url}: {_described(_parsed(now))}; one run at a time")
        time.sleep(UPLOAD_SECONDS / 10)
    self._write()
    self.renew()

  def renew(self) -> None:
    """Shows that the run is alive.

    Raises:
      RemoteError: another run has taken over, because this one was not heard of for long.
    """
    found = _parsed(self._remote.read(IN_USE) or b"")
    if {key: found.get(key) for key in self._holder} != self._holder:
      raise RemoteError(f"{self._remote.url}: {_described(found)}; this run no longer writes there")
    self._write()

  def _write(self) -> None:
    self._turn += 1
    self._remote.write(IN_USE, json.dumps(self._holder | {"turn": self._turn}).encode())

  def release(self) -> None:
    """Takes the mark away."""
    self._remote.remove([IN_USE])


def _parsed(raw: bytes) -> dict[str, Any]:
  try:
    return parse_json_object(raw.decode(), IN_USE)
  except ValueError:  # of a later version, or damaged
    return {}


def _described(holder: Mapping[str, Any]) -> str:
  if not holder:
    return "no run or an unknown one has it in use"
  return f"in use by process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"


def _has_ended(holder: Mapping[str, Any]) -> bool:
  """True if the process is known to be gone, because it ran on this machine."""
  if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
    return False
  try:
    os.kill(holder["pid"], 0)
  except ProcessLookupError:
    return True
  except OSError:
    return False
  return holder["pid"] == os.getpid()


@contextlib.contextmanager
def opened(url: str, *, trains: bool = False, exclusive: bool = False, writes: bool = True) -> Iterator[pathlib.Path]:
  """The local folder for a remote workdir; what is printed inside names the remote one. All processes call it.

  Args:
    url: the remote workdir.
    trains: whether checkpoints are written there.
    exclusive: whether no other run may have the workdir in use.
    writes: whether anything is uploaded.

  Raises:
    RemoteError: the store cannot be reached or written, or another run is using the workdir.
  """
  with_checkpoints = trains and scheme(url) != DIRECT
  hosts = processes.gather(socket.gethostname())
  me = processes.process_index_and_count()[0]
  if with_checkpoints and len(set(hosts)) > 1:
    raise RemoteError(
      f"{url}: this run has processes on {len(set(hosts))} machines, whose checkpoints can go to {DIRECT}:// or to a "
      "folder that all machines share"
    )
  leader = hosts.index(hosts[me])
  with contextlib.ExitStack() as cleanup:
    outcome: pathlib.Path | UserError | None = None
    if me == leader:
      try:
        copy = WorkingCopy(url, cleanup.enter_context(_free_folder(url)), with_checkpoints)
        if me == 0 and writes:
          cleanup.enter_context(copy.uploaded(exclusive))
        else:
          cleanup.callback(shutil.rmtree, copy.folder, ignore_errors=True)
          copy.fetch()
        outcome = copy.folder
      except UserError as error:
        outcome = error
    outcomes = processes.gather(outcome)
    for other in outcomes:
      if isinstance(other, UserError):
        raise other
    folder = outcomes[leader]
    if me != leader:
      copy = WorkingCopy(url, folder, with_checkpoints)
    _open_copies.append(copy)
    cleanup.callback(_open_copies.remove, copy)
    if sys.stdout is not None:
      cleanup.enter_context(contextlib.redirect_stdout(cast(Any, _Renaming(sys.stdout))))
    try:
      yield folder
    except UserError as error:
      error.args = (renamed(str(error)), *error.args[1:])
      raise
    except OSError as error:
      if isinstance(error.filename, str):
        error.filename = renamed(error.filename)
      raise


@contextlib.contextmanager
def _free_folder(url: str) -> Iterator[pathlib.Path]:
  """A local folder for a remote workdir that no other process of this machine has."""
  place = copies.copy_path(url, "workdirs")
  place.parent.mkdir(parents=True, exist_ok=True)
  for number in itertools.count(1):
    folder = place if number == 1 else place.with_name(f"{place.name}.{number}")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the kernel however the process ends
      except OSError:
        continue
      yield folder
      return


class _Renaming:
  """A text stream in which the local folders of remote workdirs have the names of the remote ones."""

  def __init__(self, stream: Any):
    self._stream = stream

  def write(self, text: str) -> int:
    """Writes the text under the remote names."""
    return self._stream.write(renamed(text))

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


def renamed(text: str) -> str:
  """The text with the remote workdir wherever it names the local folder."""
  for copy in _open_copies:
    text = text.replace(str(copy.folder), copy.remote.url)
  return text


def upload_now(path: str | os.PathLike) -> None:
  """Uploads what was written in the workdir that holds `path`, if it is a remote one and this process uploads.

  Raises:
    RemoteError: the store cannot be written.
  """
  for copy in _open_copies:
    if copy.is_uploaded and pathlib.Path(path).is_relative_to(copy.folder):
      copy.upload()


def remote_checkpoints(workdir: str | os.PathLike) -> str | None:
  """The remote folder of a workdir's checkpoints where they are not part of its working copy; None otherwise."""
  for copy in _open_copies:
    if pathlib.Path(workdir) == copy.folder and not copy.with_checkpoints:
      return f"{copy.remote.url}/{CHECKPOINTS}"
  return None
