"""Programs end with one line and the right exit code, also if nobody reads what they print."""

import os
import subprocess
import sys

import pytest

from data_pipelines import streams
from data_pipelines.errors import SchemaError


def ends_as(error):
  def program():
    raise error

  return streams.exit_code(program, "interrupted; go on")


@pytest.mark.parametrize(
  ("error", "code", "text"),
  [
    (SchemaError("a:\n  b"), 2, "error: a: b\n"),
    (OSError(28, "No space left on device", "x.npz"), 2, "error: x.npz: No space left on device\n"),
    (OSError("odd"), 2, "error: odd\n"),
    (KeyboardInterrupt(), 130, "interrupted; go on\n"),
  ],
)
def test_one_line_and_an_exit_code(error, code, text, capsys):
  assert ends_as(error) == code and capsys.readouterr() == ("", text)


def test_other_exceptions_keep_their_traceback(capsys):
  assert ends_as(ZeroDivisionError("here")) == 1
  assert capsys.readouterr().err.endswith("ZeroDivisionError: here\n")
  assert streams.exit_code(lambda: "anything") == 0
  with pytest.raises(SystemExit):
    streams.exit_code(sys.exit)


@pytest.mark.parametrize(
  ("program", "code"),
  [
    ("1 / 0", 1),
    ("sys.stderr.write('x' * 99999)", 2),
    ("raise SchemaError('x')", 2),
    ("raise KeyboardInterrupt", 130),
    ("print('x')", 2),
  ],
)
def test_streams_that_nobody_reads(program, code):
  script = "import sys; from data_pipelines import streams; from data_pipelines.errors import SchemaError\n"
  script += f"def program():\n  {program}\nsys.exit(streams.exit_code(program))"
  reading, writing = os.pipe()
  os.close(reading)
  ended = subprocess.run([sys.executable, "-c", script], stdout=writing, stderr=writing, check=False)
  os.close(writing)
  assert ended.returncode == code


def test_a_stream_of_ascii_prints_other_characters_as_escapes():
  script = "import sys; from data_pipelines import streams; from data_pipelines.errors import SchemaError\n"
  script += (
    "def program():\n  print('Zo\\xeb')\n  raise SchemaError('no \\u2603')\nsys.exit(streams.exit_code(program))"
  )
  environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
  ended = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=False)
  assert (ended.returncode, ended.stdout, ended.stderr) == (2, b"Zo\\xeb\n", b"error: no \\u2603\n")
