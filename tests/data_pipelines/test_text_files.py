"""Text, JSON and CSV from others."""

import csv
import errno
import json
import os
import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines import text_files
from data_pipelines.errors import SchemaError
from tests import killed_writers


@pytest.mark.parametrize(
  ("raw", "message"),
  [
    ("Größe,1\n".encode("latin-1"), r"not UTF-8 text, probably Latin-1 \(Windows-1252\); save it as UTF-8, or convert"),
    ("name,1\n".encode("utf-16"), "probably UTF-16; save it as UTF-8, or convert it: iconv -f UTF-16 -t UTF-8 FILE"),
    ("name,1\n".encode("utf-16-le"), "iconv -f UTF-16LE "),
    ("name,1\n".encode("utf-16-be"), "iconv -f UTF-16BE "),
    ("name,1\n".encode("utf-32"), "probably UTF-32; .* -f UTF-32 "),
    (b"a\0b", "holds NUL bytes, expected UTF-8 text"),
    (bytes(range(1, 32)) + b"\xff", "not text, expected UTF-8"),
    ("Größe, Länge, Höhe".encode() + b"\xff", "not UTF-8 text throughout: damaged, or partly in another encoding"),
  ],
)
def test_the_encoding_of_text_is_named(tmp_path, raw, message):
  path = tmp_path / "labels.csv"
  path.write_bytes(raw)
  with pytest.raises(SchemaError, match=f"{path}: .*{message}"):
    text_files.read_text(path)


def test_text_may_have_a_byte_order_mark(tmp_path):
  (tmp_path / "x").write_bytes("Größe\r\n".encode("utf-8-sig"))
  assert text_files.read_text(tmp_path / "x") == "Größe\r\n"


def test_what_is_not_a_file_on_disk_is_refused_at_once(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  for path, kind in ((tmp_path / "pipe", "a pipe"), ("/dev/zero", "a device"), (tmp_path, "a folder")):
    with pytest.raises(SchemaError, match=f"{path}: is {kind}, expected a file"):
      text_files.read_bytes(path)
  with pytest.raises(SchemaError, match="none: no such file"):
    text_files.read_bytes(tmp_path / "none")
  (tmp_path / "large").write_bytes(bytes(2000))
  with pytest.raises(SchemaError, match="large: 2,000 bytes, expected at most 1,000"):
    text_files.read_bytes(tmp_path / "large", 1000)


def test_json_that_is_none(tmp_path):
  path = tmp_path / "x.json"
  for text, message in (
    ("{", "not JSON: Expecting"),
    ("[" * 100_000, "nested deeper than 32 levels"),
    ("", "not JSON"),
  ):
    path.write_text(text)
    with pytest.raises(SchemaError, match=f"{path}: .*{message}"):
      text_files.read_json(path)


@pytest.mark.parametrize("field", ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "--1", "-1+1", "+1 2", "=", "-"])
def test_a_spreadsheet_sees_no_formula(field):
  assert text_files.spreadsheet_safe(field) == "'" + field


@pytest.mark.parametrize(
  "field", ["-3.2", "+5", "-1e-07", ".5", "-inf", "x=1", "", "'x", "-12 %"[:3], -1.5, None, "a-b"]
)
def test_numbers_and_other_text_stay_as_they_are(field):
  assert text_files.spreadsheet_safe(field) == field


def test_every_csv_of_the_libraries_is_written_by_one_function():
  root = pathlib.Path(text_files.__file__).parents[1]
  files = [path for library in ("aim", "data_pipelines") for path in (root / library).rglob("*.py")]
  writers = {path.name for path in files if re.search(r"csv\.(writer|DictWriter)|\.to_csv\(", path.read_text())}
  assert writers == {"text_files.py", "imported_source.py"}  # the latter calls account_summary.to_csv


@given(st.lists(st.lists(st.text("=+-@'1.e\t\nx,\""), min_size=2, max_size=2)))
def test_programs_read_back_what_was_written(tmp_path_factory, rows):
  path = tmp_path_factory.mktemp("csv") / "x.csv"
  text_files.write_csv(path, ["a", "=b"], rows)
  with path.open(newline="") as file:
    header, *read = text_files.read_fields(csv.reader(file))
  assert header == ["a", "=b"] and read == [list(row) for row in rows]
  assert path.read_bytes().decode() == text_files.csv_text(["a", "=b"], rows)
  for line in csv.reader(path.open(newline="")):
    for field in line:
      assert field[:1] not in tuple("=@\t") and (field[:1] not in ("+", "-") or float(field.rstrip("%")) is not None)


@given(
  st.recursive(
    st.none() | st.text('"[]{}\\a'), lambda x: st.lists(x) | st.dictionaries(st.text("[]{"), x), max_leaves=50
  )
)
def test_the_depth_of_json_is_limited(value):
  def depth(x):
    children = x.values() if isinstance(x, dict) else x if isinstance(x, list) else None
    return 0 if children is None else 1 + max(map(depth, children), default=0)

  around = text_files.DEEPEST - depth(value)
  deepest = "[" * around + json.dumps(value) + "]" * around
  text_files.check_depth(deepest, "x")
  with pytest.raises(SchemaError, match="x: JSON is nested deeper than 32 levels"):
    text_files.check_depth(f"[{deepest}]", "x")


@pytest.mark.parametrize(
  ("percent", "text"),
  [
    *((0, "0 %"), (0.001, "under 0.01 %"), (0.33, "0.33 %"), (9.96, "10 %"), (37.51, "37.5 %"), (99.6, "99.6 %")),
    *((99.97, "over 99.9 %"), (100, "100 %"), (120, "120 %")),
  ],
)
def test_percentages(percent, text):
  assert text_files.percentage(percent) == text


@given(st.floats(1e-4, 1e14), st.integers(2, 5))
def test_numbers_have_no_exponents(value, digits):
  text = text_files.plain_number(value, digits)
  assert "e" not in text and float(text.replace(",", "")) == pytest.approx(value, rel=0.6 * 10 ** (1 - digits))
  assert text_files.plain_number(-value, digits) == "-" + text
  assert text_files.plain_number(value, digits, sign="+") == "+" + text


def test_nouns_after_one_are_in_the_singular():
  texts = [text_files.counted(n, noun) for n, noun in ((1, "person"), (0, "person"), (1, "day"), (1440, "step"))]
  assert texts == ["1 person", "0 people", "1 day", "1,440 steps"] and text_files.counted(2, "patch") == "2 patches"


def test_the_file_behind_a_link_is_replaced(tmp_path):
  (tmp_path / "elsewhere").mkdir()
  target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "link.txt"
  link.symlink_to("elsewhere/a.txt")
  for text in ("new", "newer"):  # at first the link points to nothing
    text_files.replace_text(link, text)
    assert link.is_symlink() and target.read_text() == text
  assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("text", ("", "half of it"))
def test_what_a_killed_process_left_of_a_file_is_removed_by_the_next_one_and_never_what_a_living_one_writes(
  tmp_path, text
):
  (tmp_path / f"other.csv.{'0' * 32}.new").write_text("of another file")
  mine = tmp_path / f"a.csv.{'0' * 31}.new"
  mine.write_text("not a name that is made here")
  code = "from data_pipelines import text_files\n"
  code += f"with text_files.replacing(pathlib.Path('a.csv')) as new:\n  new.write_text({text!r})"
  with killed_writers.two_writers(tmp_path, code) as (dead, _):
    kept = {path.name for path in tmp_path.iterdir()}
    assert len(kept) == 4
    killed_writers.kill(dead)
    text_files.replace_text(tmp_path / "a.csv", "whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left & kept) == 3 and left - kept == {"a.csv"} and (tmp_path / "a.csv").read_text() == "whole"
  text_files.replace_text(tmp_path / "a.csv", "again")
  assert {path.name for path in tmp_path.iterdir()} == {"a.csv", mine.name, f"other.csv.{'0' * 32}.new"}


def test_without_locks_nothing_is_removed_but_everything_written(tmp_path, monkeypatch):
  def flock(lock, how):
    raise OSError(errno.ENOTSUP, "no locks here")

  monkeypatch.setattr("fcntl.flock", flock)
  (tmp_path / f"a.csv.{'0' * 32}.new").write_text("whose?")
  text_files.replace_text(tmp_path / "a.csv", "whole")
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", f"a.csv.{'0' * 32}.new"]
