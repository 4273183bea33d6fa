"""A trace of some steps: what it holds, that a resumed run writes it too, and which texts are refused."""

import shutil

import jax.profiler
import pytest

from aim.training import step_profile
from tests import tiny


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("profile"))


def run(dataset, workdir, steps, **changes):
  flags = tiny.overrides(log__profile_steps=steps, checkpoint__every_steps=3, checkpoint__keep=9, **changes)
  return tiny.run(f"--config={tiny.CONFIG}", *tiny.on(dataset), *flags, f"--workdir={workdir}")


def traced_steps(workdir):
  """The numbers of the steps in the newest trace."""
  newest = max((workdir / "profile").rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
  planes = jax.profiler.ProfileData.from_file(str(newest)).planes
  events = [event for plane in planes for line in plane.lines for event in line.events]
  assert len(events) > 100, "nothing but the steps is traced"
  return sorted(dict(event.stats)["step_num"] for event in events if event.name == step_profile.NAME)


@pytest.mark.slow
def test_the_steps_are_traced_and_a_resumed_run_traces_what_is_left(dataset, tmp_path):
  workdir = tmp_path / "run"
  ended = run(dataset, workdir, "2:5")
  assert ended.code == 0, ended.err
  assert f"trace of steps: {workdir / 'profile'}; " in ended.err + ended.out
  assert traced_steps(workdir) == [2, 3, 4, 5]
  for folder in (workdir / "checkpoints/6", workdir / "profile"):
    shutil.rmtree(folder)
  assert run(dataset, workdir, "2:5").code == 0
  assert traced_steps(workdir) == [4, 5]
  shutil.rmtree(workdir / "checkpoints/6")
  ended = run(dataset, workdir, "2:3")
  assert "config.log.profile_steps is 2:3: this run goes on from step 3, so there is no trace" in ended.out


@pytest.mark.parametrize(
  ("steps", "problem"),
  [
    ("5-9", "config.log.profile_steps is '5-9', expected steps FIRST:LAST, such as 100:110, or nothing"),
    ("0:3", "config.log.profile_steps is '0:3', expected steps FIRST:LAST, such as 100:110, or nothing"),
    ("5:2", "config.log.profile_steps is '5:2', expected steps FIRST:LAST of the run, from 1 to config.total_steps, 6"),
    ("5:7", "config.log.profile_steps is '5:7', expected steps FIRST:LAST of the run, from 1 to config.total_steps, 6"),
  ],
)
def test_what_is_no_span_of_the_run_is_refused(dataset, tmp_path, steps, problem):
  ended = run(dataset, tmp_path, steps)
  assert (ended.code, ended.err.count("\n")) == (2, 1) and ended.err.startswith(f"error: {problem}")
  assert not (tmp_path / "checkpoints").exists()
