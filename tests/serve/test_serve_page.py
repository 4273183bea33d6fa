"""docs/serve.md: its commands and examples run as printed, but on a free port."""

import re
import subprocess
import sys

import pytest

from tests import tiny

PAGE = (tiny.ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
FUNCTIONS, HTTP = PAGE.split("\n## ")[1:]


def examples(section: str, language: str) -> list[str]:
  return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def arguments(section: str, module: str) -> list[str]:
  """The words after `python -m module` in the section's first command."""
  return re.search(rf"^python -m {re.escape(module)} (.*)$", section, re.MULTILINE)[1].split()


def test_every_flag_is_on_the_page():
  shown = subprocess.run([sys.executable, "-m", "aim.serve", "--help"], cwd=tiny.ROOT, capture_output=True, text=True)
  flags = re.findall(r"^  --(\w+)=", shown.stdout, re.MULTILINE)
  assert len(flags) == 10
  assert not [flag for flag in flags if f"`--{flag}`" not in HTTP]


@pytest.mark.slow
def test_functions_are_written_and_called_as_printed(tmp_path):
  ended = tiny.run(*arguments(FUNCTIONS, "aim.main"), cwd=tmp_path)
  assert ended.code == 0, ended.err
  (code,) = examples(FUNCTIONS, "python")
  called = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
  assert called.stdout == "(3, 128) (3, 288, 19)\n", called.stderr


@pytest.mark.slow
def test_a_service_is_started_and_asked_as_printed(tmp_path):
  command = [sys.executable, "-m", "aim.serve", *arguments(HTTP, "aim.serve"), "--port=0"]
  process = subprocess.Popen(command, cwd=tmp_path, env=tiny.environment(), stdout=subprocess.PIPE, text=True)
  try:
    line = process.stdout.readline()
    (shown,) = re.findall(r"^serving .*$", HTTP, re.MULTILINE)
    port = re.search(r":(\d+) ", line)[1]
    assert re.sub(r"\d+ s", "", line.replace(port, "8000").strip()) == re.sub(r"\d+ s", "", shown)
    (code,) = examples(HTTP, "python")
    asked = subprocess.run(
      [sys.executable, "-c", code.replace("8000", port)], cwd=tmp_path, capture_output=True, text=True
    )
    embedded, filled = asked.stdout.splitlines()
    assert embedded.startswith("embed {'embeddings': 1, 'notes': ") and filled.startswith("impute {'days': 1"), asked
  finally:
    process.terminate()
    process.communicate(timeout=60)
