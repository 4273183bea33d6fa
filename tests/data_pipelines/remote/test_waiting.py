"""A store that does not answer is named while its backend still tries again; one that answers is not."""

from __future__ import annotations

import time

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data_pipelines.remote import objects
from data_pipelines.remote.objects import RemoteError, RemoteFolder


def test_a_wait_is_reported_once_before_the_error(monkeypatch, capsys):
  def unreachable(*_, **__):
    time.sleep(0.3)
    raise OSError("Cannot connect to host")

  monkeypatch.setattr(objects, "PATIENCE", 0.05)
  monkeypatch.setattr(MemoryFileSystem, "ls", unreachable)
  with pytest.raises(RemoteError, match=r"^memory://waiting: cannot be listed: Cannot connect to host$"):
    RemoteFolder("memory://waiting").children()
  assert capsys.readouterr().out == "memory://waiting: no answer yet; trying again for about a minute\n"


def test_a_store_that_answers_is_not(monkeypatch, capsys, tmp_path):
  folder = RemoteFolder("memory://answers")
  folder.write("x", b"1")
  assert folder.children() == ["x"] and folder.read("x") == b"1"
  monkeypatch.setattr(objects, "PATIENCE", 0.05)
  monkeypatch.setattr(MemoryFileSystem, "get_file", lambda *_, **__: time.sleep(0.2))
  folder.fetch("x", tmp_path / "x")  # a large file
  folder.remove(["x"])
  assert capsys.readouterr().out == ""
