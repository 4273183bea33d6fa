"""The command line as people meet it first: help, and the names that they mistype."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aim import commands
from aim.common import config_files
from data_pipelines.text_files import counted
from tests import tiny


def test_absent_accelerators_are_not_announced(tmp_path):
  """JAX tells about each of them at a level that absl's app.run shows."""
  days, absent = tiny.write_npz(tmp_path / "days.npz"), tmp_path / "absent"
  flags = ("--mode=embed", f"--data={days}", f"--checkpoint={absent}", f"--output={tmp_path}/out.npz")
  ended = tiny.wait(tiny.start(*flags, variables={"JAX_PLATFORMS": ""}))
  assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
  assert f"{absent}: no such folder; expected a workdir, a checkpoint" in ended.err


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", "3"])
def test_a_damaged_config_of_a_workdir_is_named(tmp_path, content):
  path = tmp_path / "config.json"
  path.write_text(content)
  with pytest.raises(config_files.ConfigError, match=rf"^{path}: not "):
    commands.saved_config(tmp_path)


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpshort"])
def test_help_lists_the_modes_by_task_and_succeeds(flag):
  ended = tiny.run(flag)
  assert (ended.code, ended.err) == (0, "")
  lines = ended.out.splitlines()
  tasks = [f"{mode.task}:" for mode in commands.MODES.values()]
  for mode in commands.MODES.values():
    line = lines.index(f"  {mode.name:<11} {mode.help}")
    assert next(text for text in reversed(lines[:line]) if text in tasks) == f"{mode.task}:"
  assert all(
    any(line.startswith(f"  --{name}=") for line in lines) for name in ("config", "workdir", "output", "chips")
  )
  assert max(map(len, lines[:-3])) <= 120


TIMED_HELP = """
import resource, runpy, sys
sys.argv = ["aim.main", "--help"]
try:
  runpy.run_module("aim.main", run_name="__main__")
except SystemExit:
  pass
use = resource.getrusage(resource.RUSAGE_SELF)
print(use.ru_utime + use.ru_stime, file=sys.stderr)
"""


def test_help_needs_less_than_a_second():
  """Processor time is measured, because other tests run beside this one."""
  done = subprocess.run([sys.executable, "-c", TIMED_HELP], cwd=tiny.ROOT, capture_output=True, text=True, check=True)
  assert float(done.stderr) < 1.0


def test_nouns_are_counted():
  assert [counted(n, "person") for n in (0, 1, 2)] == ["0 people", "1 person", "2 people"]
  assert [counted(n, "day") for n in (1, 1440)] == ["1 day", "1,440 days"]


def test_every_mode_has_a_task():
  assert all(mode.task for mode in commands.MODES.values())


@pytest.mark.parametrize(
  ("name", "hint"),
  [
    ("nope.py", "no such file; shipped: compare_ablations, compare_activity, compare_context, "),
    ("lsm2_bse", "no shipped experiment of this name; the nearest shipped experiment is --config=lsm2_base"),
    ("qqq", "no shipped experiment of this name; shipped: compare_ablations, compare_activity, "),
  ],
)
def test_only_a_similar_experiment_is_suggested(name, hint):
  with pytest.raises(config_files.ConfigError) as error:
    config_files.find(name)
  assert str(error.value).startswith(f"--config={name}: {hint}")


def test_a_flag_that_is_no_whole_number():
  """Both programs say it alike."""
  ended = tiny.run(f"--config={tiny.CONFIG}", "--workdir=w", "--config.total_steps=4.5")
  assert (ended.code, ended.err) == (2, "error: flag --config.total_steps=4.5: expected a whole number\n")
  build = [sys.executable, "-m", "data_pipelines.build", "--source=simulate", "--days=4.5"]
  ended = subprocess.run(build, cwd=tiny.ROOT, capture_output=True, text=True, env=tiny.environment())
  assert (ended.returncode, ended.stderr) == (2, "error: flag --days=4.5: expected a whole number\n")
