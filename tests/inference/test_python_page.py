"""docs/python.md: its examples run from top to bottom on a tiny model, so that they cannot rot."""

import pathlib
import re

import pytest

from tests import tiny

PAGE = tiny.ROOT / "docs" / "python.md"
DATASET = re.search(r'Dataset\.open\("data", "(\w+)"\)', PAGE.read_text(encoding="utf-8"))[1]


def blocks() -> str:
  """The page's python blocks as one module whose line numbers are the page's."""
  lines, inside = [], False
  for line in PAGE.read_text(encoding="utf-8").splitlines():
    fence = line.startswith("```")
    lines.append(line if inside and not fence else "")
    inside = line == "```python" if fence else inside
  return "\n".join(lines) + "\n"


@pytest.fixture
def demo(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  """A folder with what the page expects: a trained model at runs/demo and a dataset under data/."""
  dataset = tiny.dataset(tmp_path, DATASET)
  flags = tiny.overrides(total_steps=2)
  ended = tiny.run(f"--config={tiny.CONFIG}", f"--workdir={tmp_path / 'runs' / 'demo'}", *tiny.on(dataset), *flags)
  assert ended.code == 0, ended.err
  monkeypatch.chdir(tmp_path)


def test_the_examples_run(demo: None, capsys: pytest.CaptureFixture[str]):
  code = compile(blocks(), str(PAGE), "exec")
  exec(code, {"__name__": "__main__"})
  *_, error = capsys.readouterr().out.splitlines()
  assert error.startswith("embed: values have shape (3, 5, 3), expected [..., 24, 3]")
