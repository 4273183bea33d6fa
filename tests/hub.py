"""A hub of models on this machine: what huggingface_hub asks of one, answered over HTTP from memory."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import pathlib
import re
import threading
from collections.abc import Iterator

_MODEL = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+?)(/revision/(?P<revision>[^/]+))?$")
_TREE = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)$")
_FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")


class Hub:
  """Models with their commits.

  Attributes:
    url: of the server.
    requests: the paths that were asked for.
    broken: answer everything with "503 Service Unavailable".
  """

  def __init__(self, url: str):
    self.url, self.broken = url, False
    self.requests: list[str] = []
    self.commits: dict[str, dict[str, dict[str, bytes]]] = {}  # {model: {commit: {file: content}}}
    self.branches: dict[str, dict[str, str]] = {}  # {model: {branch or tag: commit}}

  def publish(self, name: str, folder: pathlib.Path, *branches: str) -> str:
    """Adds a commit of what is in a folder, to which these branches point; returns its number."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    commit = hashlib.sha1(b"".join(files.values()) + str(len(self.commits.get(name, {}))).encode()).hexdigest()
    self.commits.setdefault(name, {})[commit] = files
    self.branches.setdefault(name, {}).update(dict.fromkeys(branches or ("main",), commit))
    return commit

  def commit(self, name: str, revision: str | None) -> str | None:
    revision = revision or "main"
    return revision if revision in self.commits[name] else self.branches[name].get(revision)


class _Handler(http.server.BaseHTTPRequestHandler):
  hub: Hub

  def do_GET(self) -> None:
    self.hub.requests.append(self.path)
    path = self.path.split("?")[0]
    match = _TREE.match(path) or _FILE.match(path) or _MODEL.match(path)
    parts = match.groupdict() if match else {}
    if self.hub.broken:
      self._answer(503, b"{}")
    elif not match or parts["name"] not in self.hub.commits:
      self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
    elif (commit := self.hub.commit(parts["name"], parts["revision"])) is None:
      self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
    else:
      files = self.hub.commits[parts["name"]][commit]
      if "file" in parts:
        self._file(files.get(parts["file"]), commit)
      else:
        tree = [{"type": "file", "path": name, "size": len(raw), "oid": _oid(raw)} for name, raw in files.items()]
        about = {"id": parts["name"], "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        self._answer(200, json.dumps(tree if _TREE.match(path) else about).encode())

  do_HEAD = do_GET

  def _file(self, raw: bytes | None, commit: str) -> None:
    if raw is None:
      self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
    else:
      self._answer(200, raw, {"X-Repo-Commit": commit, "ETag": f'"{_oid(raw)}"'})

  def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    self.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
      self.send_header(name, value)
    self.end_headers()
    if self.command == "GET":
      self.wfile.write(body)

  def log_message(self, *_: object) -> None:
    """Prints nothing."""


def _oid(raw: bytes) -> str:
  return hashlib.sha1(raw).hexdigest()


@contextlib.contextmanager
def served() -> Iterator[Hub]:
  """A hub on a free port of this machine."""
  handler = type("Handler", (_Handler,), {})
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
      yield handler.hub
    finally:
      server.shutdown()
      thread.join()
