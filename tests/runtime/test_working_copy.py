"""Working copies of remote workdirs; memory:// stands for the object store."""

from __future__ import annotations

import json
import os
import pathlib

import fsspec
import pytest

from aim.runtime import working_copy
from data_pipelines.errors import UserError
from data_pipelines.remote import copies
from data_pipelines.remote.objects import RemoteError, RemoteFolder

DEAD = 2**22 + 1  # more than any process id of Linux


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A remote workdir that has two files and a checkpoint."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.setattr(working_copy, "UPLOAD_SECONDS", 0.05)
  remote = RemoteFolder(f"memory://{tmp_path.name}/run")
  for name in ("metrics.jsonl", "evaluate/people.csv", "checkpoints/3/params/d"):
    remote.write(name, name.encode())
  yield remote
  fsspec.filesystem("memory").store.clear()


def contents(remote):
  return {name: remote.read(name) for name in remote.files()}


def test_what_changes_is_uploaded_and_what_is_removed_is_gone(run):
  with working_copy.opened(run.url) as folder:
    assert (folder / "evaluate/people.csv").read_text() == "evaluate/people.csv"
    with (folder / "metrics.jsonl").open("a") as file:
      file.write("+1")
    (folder / "evaluate/people.csv").unlink()
    (folder / "probe").mkdir()
    (folder / "probe/probe.csv").write_text("new")
    (folder / "config.json.new").write_text("half")
  assert contents(run) == {
    "metrics.jsonl": b"metrics.jsonl+1",
    "probe/probe.csv": b"new",
    "checkpoints/3/params/d": b"checkpoints/3/params/d",
  }
  assert not folder.exists()


def test_files_appear_while_the_run_goes_on_and_at_once_when_asked(run, monkeypatch):
  with working_copy.opened(run.url) as folder:
    (folder / "a.csv").write_text("1")
    for _ in range(200):
      if run.read("a.csv"):
        break
      working_copy.time.sleep(0.01)
    assert run.read("a.csv") == b"1"
    monkeypatch.setattr(working_copy, "UPLOAD_SECONDS", 1000)
    (folder / "b.csv").write_text("2")
    working_copy.upload_now(folder / "b.csv")
    assert run.read("b.csv") == b"2"


def test_two_modes_may_write_into_one_workdir(run):
  """They have a folder each, and upload their own files only."""
  with working_copy.opened(run.url) as one, working_copy.opened(run.url) as other:
    assert one != other
    (one / "generative.csv").write_text("1")
    (other / "probe.csv").write_text("2")
    (other / "evaluate/people.csv").unlink()
  assert {"generative.csv", "probe.csv", "metrics.jsonl"} < contents(run).keys()
  assert "evaluate/people.csv" not in contents(run)


def test_checkpoints_are_part_of_it_where_orbax_cannot_write(run, monkeypatch):
  with working_copy.opened(run.url, trains=True, exclusive=True) as folder:
    assert (folder / "checkpoints/3/params/d").exists()
    assert working_copy.remote_checkpoints(folder) is None
    (folder / "checkpoints/5.orbax-checkpoint-tmp").mkdir()
    (folder / "checkpoints/5.orbax-checkpoint-tmp/d").write_text("half")
    order, send = [], RemoteFolder.send
    monkeypatch.setattr(RemoteFolder, "send", lambda *arguments: (order.append(arguments[2]), send(*arguments)))
    (folder / "checkpoints/4").mkdir()
    (folder / "checkpoints/4/d").write_text("whole")
    (folder / "metrics.jsonl").write_text("more")
    working_copy.upload_now(folder)
  assert order.index("metrics.jsonl") < order.index("checkpoints/4/d")
  assert run.read("checkpoints/4/d") == b"whole"
  assert not [name for name in contents(run) if "tmp" in name]


def test_checkpoints_are_left_where_they_are_otherwise(run):
  with working_copy.opened(run.url) as folder:
    assert not (folder / "checkpoints").exists()
    assert working_copy.remote_checkpoints(folder) == f"{run.url}/checkpoints"
    assert working_copy.remote_checkpoints(folder / "evaluate") is None
  assert run.read("checkpoints/3/params/d")


def test_what_is_printed_and_raised_names_the_remote_workdir(run, capsys):
  with pytest.raises(UserError, match=f"^{run.url}/metrics.jsonl: bad$"), working_copy.opened(run.url) as folder:
    print(f"{folder}/config.json: written")
    raise UserError(f"{folder}/metrics.jsonl: bad")
  with pytest.raises(FileNotFoundError) as error, working_copy.opened(run.url) as folder:
    (folder / "none").read_text()
  assert error.value.filename == f"{run.url}/none"
  assert f"{run.url}/config.json: written" in capsys.readouterr().out


def test_what_a_failing_run_wrote_is_uploaded(run):
  with pytest.raises(SystemExit), working_copy.opened(run.url, exclusive=True) as folder:
    (folder / "a").write_text("1")
    raise SystemExit(143)
  assert run.read("a") == b"1"
  assert run.read(working_copy.IN_USE) is None


def mark(run, **holder):
  run.write(
    working_copy.IN_USE, json.dumps({"host": "elsewhere", "pid": 7, "since": "noon", "turn": 0} | holder).encode()
  )


def test_a_run_that_is_alive_keeps_others_out(run, monkeypatch):
  mark(run)
  turns = iter(range(1, 1000))

  def alive(seconds):
    mark(run, turn=next(turns))

  monkeypatch.setattr(working_copy.time, "sleep", alive)
  refusal = f"^{run.url}: in use by process 7 on elsewhere since noon; one run at a time"
  with pytest.raises(RemoteError, match=refusal), working_copy.opened(run.url, exclusive=True):
    pass
  with working_copy.opened(run.url):  # a mode that trains nothing
    pass
  assert run.read(working_copy.IN_USE)


@pytest.mark.parametrize("holder", [{}, {"host": working_copy.socket.gethostname(), "pid": DEAD}, {"pid": "x"}])
def test_a_run_that_ended_without_a_word_does_not(run, holder):
  mark(run, **holder)
  with working_copy.opened(run.url, exclusive=True):
    assert json.loads(run.read(working_copy.IN_USE))["pid"] == os.getpid()
  assert run.read(working_copy.IN_USE) is None


def test_a_run_that_was_taken_over_writes_no_more(run, capsys):
  refusal = "in use by process 7 on elsewhere since noon; this run no longer writes there"
  with pytest.raises(RemoteError, match=refusal), working_copy.opened(run.url, exclusive=True) as folder:
    mark(run)
    (folder / "a").write_text("1")
    with pytest.raises(RemoteError):
      working_copy.upload_now(folder)
  assert run.read("a") is None


def test_what_cannot_be_uploaded_stays(run, monkeypatch, tmp_path, capsys):
  send = RemoteFolder.send

  def fails(self, path, name):
    raise RemoteError(f"{self.url}/{name}: cannot be written: no permission")

  with (
    pytest.raises(RemoteError, match="what was not uploaded is in ") as error,
    working_copy.opened(run.url) as folder,
  ):
    monkeypatch.setattr(RemoteFolder, "send", fails)
    (folder / "a").write_text("1")
    working_copy.time.sleep(0.3)
  kept = pathlib.Path(str(error.value).rsplit(" ", 1)[-1])
  assert (kept / "a").read_text() == "1"
  assert capsys.readouterr().err.count("warning: ") == 1
  monkeypatch.setattr(RemoteFolder, "send", send)
  with working_copy.opened(run.url):
    assert (kept / "a").exists()


def test_an_output_is_uploaded_if_nothing_fails(run, capsys):
  with copies.output(f"{run.url}/out.npz") as path:
    path.write_bytes(b"1")
  assert run.read("out.npz") == b"1"
  with pytest.raises(KeyError), copies.output(f"{run.url}/other.npz") as path:
    path.write_bytes(b"1")
    raise KeyError
  assert run.read("other.npz") is None
  with copies.output(path) as local:
    assert local == path
