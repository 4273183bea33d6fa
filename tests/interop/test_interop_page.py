"""docs/interop.md: what it prints runs, but for what needs OpenMHC's package and data."""

import re

import pytest
from safetensors.numpy import load_file

from tests import openmhc_release, tiny

PAGE = (tiny.ROOT / "docs" / "interop.md").read_text(encoding="utf-8")


def blocks(section):
  text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
  return re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("section", ["scikit-learn", "PyPOTS"])
def test_the_examples_run(section, capsys):
  ((_, code),) = blocks(section)
  exec(code, {"__name__": "__main__"})
  out = capsys.readouterr().out.splitlines()
  assert out[-1] == {"scikit-learn": "False", "PyPOTS": "(2, 288, 19)"}[section], out


@pytest.mark.slow
def test_a_release_is_loaded_and_written_again_as_printed(tmp_path, monkeypatch):
  weights = openmhc_release.weights()
  openmhc_release.write(tmp_path / "openmhc-lsm2-daily", weights, lightning=True)
  monkeypatch.chdir(tmp_path)
  (_, python), (_, command) = blocks("OpenMHC's weights")
  days = openmhc_release.days(1)
  names = {"days": days}
  exec(python.replace("days = ...", "days = days"), names)
  assert names["model"].embed(days).shape == (1, 16)
  ended = tiny.run(*command.split()[3:], cwd=tmp_path)
  assert ended.code == 0 and ended.out.startswith("again: 10,258 parameters in float32, 7 steps"), ended
  written = {path.name for path in (tmp_path / "again").iterdir()}
  assert written == {"openmhc_manifest.json", "normalization_stats.json", "model.safetensors"}
  assert load_file(tmp_path / "again" / "model.safetensors").keys() == {f"model.{name}" for name in weights}
