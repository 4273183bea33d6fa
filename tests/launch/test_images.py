"""The Dockerfiles, read without a daemon: what they name exists, and what they run while building runs here."""

import json
import re
import shlex
import socket
import subprocess
import sys

import pytest

from tests import tiny
from tests.test_packaging import declared

IMAGES = sorted((tiny.ROOT / "launch").glob("Dockerfile.*"))


def instructions(path):
  """(name, arguments) of each instruction, with continued lines joined."""
  lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
  joined = re.sub(r"\\\n", " ", "\n".join(lines))
  return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def of(path, name):
  return [arguments for instruction, arguments in instructions(path) if instruction == name]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_what_an_image_names_exists(path):
  (extras,) = re.findall(r'-e "\.\[([\w,]+)\]" -c constraints\.txt', path.read_text())
  assert set(extras.split(",")) <= set(declared()["extras_require"])
  for copied in of(path, "COPY"):
    *sources, _ = copied.split()
    assert not [source for source in sources if not (tiny.ROOT / source).exists()]
  (entry,) = map(json.loads, of(path, "ENTRYPOINT"))
  module = tiny.ROOT / entry[2].replace(".", "/")
  program = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
  flags = [word[2:].partition("=")[0] for word in entry[3:]]
  assert entry[:2] == ["python", "-m"] and not [flag for flag in flags if f'"{flag}"' not in program.read_text()]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_the_checks_of_a_build_run(path):
  (check,) = [run for run in of(path, "RUN") if "--help" in run]
  command = check.replace("python ", f"{shlex.quote(sys.executable)} ")
  ended = subprocess.run(["sh", "-c", command], cwd=tiny.ROOT, env=tiny.environment(), capture_output=True, text=True)
  assert ended.returncode == 0, ended.stderr


def test_the_image_that_serves_is_not_root_and_knows_when_it_is_ready():
  path = tiny.ROOT / "launch" / "Dockerfile.serve"
  names = [name for name, _ in instructions(path)]
  assert names.index("USER") < names.index("ENTRYPOINT") and of(path, "USER") == ["served"]
  (check,) = of(path, "HEALTHCHECK")
  (port,) = of(path, "EXPOSE")
  program = json.loads(check.partition(" CMD ")[2])
  assert f", {port}," in program[2] and "'/health'" in program[2]
  with socket.socket() as silent:  # takes a port, and does not listen
    silent.bind(("127.0.0.1", 0))
    code = program[2].replace(port, str(silent.getsockname()[1]))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert ended.returncode == 1 and "refused" in ended.stderr
