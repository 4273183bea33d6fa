"""Output files that belong together are always of one result."""

import pathlib

import pytest

from aim.common import output_files
from tests import killed_writers


def test_files_that_belong_together_are_replaced_together(tmp_path, monkeypatch):
  names, contents = ("page", "data"), lambda: {path.name: path.read_text() for path in tmp_path.iterdir()}

  def write(text, names=names):
    with output_files.replaced_together(tmp_path, ("page", "data")) as unfinished:
      for name in names:
        (unfinished / name).write_text(text)

  (tmp_path / "notes").write_text("mine")
  write("first")
  write("second")
  assert contents() == {"page": "second", "data": "second", "notes": "mine"}
  with pytest.raises(OSError), output_files.replaced_together(tmp_path, names) as unfinished:
    (unfinished / "page").write_text("third")
    raise OSError("disk full")
  assert contents() == {"page": "second", "data": "second", "notes": "mine"}

  rename = pathlib.Path.rename

  def killed(path, target):
    if path.name == "page":
      raise KeyboardInterrupt
    return rename(path, target)

  monkeypatch.setattr(pathlib.Path, "rename", killed)
  with pytest.raises(KeyboardInterrupt):
    write("third")
  assert contents() == {"data": "third", "notes": "mine"}, "too few files, none of the one before"


def test_a_link_stays_one(tmp_path):
  (tmp_path / "web").mkdir()
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "page").symlink_to(tmp_path / "web" / "page")
  for text in ("first", "second"):
    with output_files.replaced_together(tmp_path / "out", ("page",)) as unfinished:
      (unfinished / "page").write_text(text)
    assert (tmp_path / "out" / "page").is_symlink() and (tmp_path / "web" / "page").read_text() == text


def test_a_folder_never_keeps_what_a_killed_run_wrote_of_another_person(tmp_path):
  code = """
from aim.common import output_files
with output_files.replaced_together(".", ("page", "data")) as unfinished:
  (unfinished / "page").write_text("of one person")"""
  with killed_writers.two_writers(tmp_path, code) as (dead, _):
    killed_writers.kill(dead)
    with output_files.replaced_together(tmp_path, ("page", "data")) as unfinished:
      for name in ("page", "data"):
        (unfinished / name).write_text("of another")
    assert len(list(tmp_path.glob("*.new/page"))) == 1, "of the run that still writes"
  output_files.remove_unfinished(tmp_path)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "page"]
