"""The held-out loss of a training run: who is scored, that it repeats to the bit, and when it has turned."""

import json
import math
import shutil

import pytest

from aim.training.heldout_curve import HeldoutCurve, turned
from aim.training.metrics_writer import earlier_lines
from tests import tiny

EVERY = 2


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  """Four people to train on, three in tune (six days) and one in eval."""
  return tiny.dataset(tmp_path_factory.mktemp("heldout"), evaluated=1, tuned=3)


def run(dataset, workdir, config=tiny.CONFIG, devices=1, **changes):
  changes = {"evaluate_every": EVERY, "checkpoint__every_steps": 3, "checkpoint__keep": 100, **changes}
  flags = [f"--config={config}", *tiny.on(dataset), *tiny.overrides(**changes)]
  return tiny.run(*flags, f"--workdir={workdir}", devices=devices)


def curve(workdir):
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [(line["step"], line["heldout_loss"]) for line in lines if "heldout_loss" in line]


def compilations(workdir):
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [line["compilations"] for line in lines if "compilations" in line]


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("trained")
  ended = run(dataset, workdir)
  assert ended.code == 0, ended.err
  return workdir, ended


def test_people_of_tune_are_scored(trained):
  workdir, ended = trained
  assert f"held-out loss every {EVERY} steps, on 6 days of 3 people of split 'tune'" in ended.out
  steps, losses = zip(*curve(workdir), strict=True)
  assert steps == (2, 4, 6) and all(math.isfinite(loss) and loss > 0 for loss in losses)
  assert f"on held-out people {losses[-1]:.4f}" in ended.out
  assert len(set(compilations(workdir)[1:])) == 1, "a score compiles nothing"


@pytest.mark.slow
def test_a_resumed_run_has_the_same_curve(dataset, trained, tmp_path):
  """The checkpoint of step 3 lies between two scores."""
  workdir, _ = trained
  shutil.copytree(workdir, tmp_path / "copy")
  shutil.rmtree(tmp_path / "copy/checkpoints/6")
  assert [step for step, _ in curve(tmp_path / "copy")] == [2, 4, 6]
  ended = run(dataset, tmp_path / "copy")
  assert "checkpoint at step 3: going on from there" in ended.out, ended.err
  assert curve(tmp_path / "copy") == curve(workdir)


def test_scoring_changes_no_training(dataset, trained, tmp_path):
  assert run(dataset, tmp_path, evaluate_every=0).code == 0
  losses = lambda folder: [line["loss"] for line in earlier_lines(folder, 6) if "loss" in line]
  assert curve(tmp_path) == [] and losses(tmp_path) == losses(trained[0])


@pytest.mark.slow
def test_eight_devices_score_as_one(dataset, trained, tmp_path):
  """Six days on eight devices: the batch is filled up with days without any value."""
  ended = run(dataset, tmp_path, devices=8, batch_size=8, mesh__fsdp=2, mesh__tensor=2)
  assert ended.code == 0, ended.err
  alone = tmp_path / "alone"
  assert run(dataset, alone, batch_size=8).code == 0
  ours, theirs = (dict(curve(folder)) for folder in (tmp_path, alone))
  assert ours == pytest.approx(theirs, rel=1e-5) and len(ours) == 3


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lsm1", "simclr", "dino", "msn"])
def test_every_method_has_a_curve(dataset, tmp_path, method):
  changes = {"form": "auto", "optimizer__accumulate": 2, "model__patch_channels": 2, "optimizer__ema": 0.0}
  small = {"views__prototypes": 16, "views__projection__hidden": 16}
  ended = run(dataset, tmp_path, f"experiments/{method}_xs.py", **changes, **small)
  assert ended.code == 0, ended.err
  assert [step for step, _ in curve(tmp_path)] == [2, 4, 6]
  assert all(math.isfinite(loss) for _, loss in curve(tmp_path))
  assert len(set(compilations(tmp_path)[1:])) == 1


def test_without_tune_people_it_is_said_once(tmp_path):
  ended = run(tiny.dataset(tmp_path), tmp_path / "run", total_steps=2)
  assert ended.code == 0, ended.err
  (line,) = [line for line in ended.out.splitlines() if "held-out" in line]
  assert line.startswith("no held-out loss: ") and line.endswith("has no days in split 'tune'")
  assert curve(tmp_path / "run") == []


def entries(losses):
  return [(10 * (i + 1), loss) for i, loss in enumerate(losses)]


@pytest.mark.parametrize(
  ("losses", "turn"),
  [
    ([], None),
    ([3, 2, 1], None),
    ([3.0, 2.0, 2.1, 2.2], None),  # two scores above the lowest
    ([3.0, 2.0, 2.1, 2.2, 2.3], (20, 2.0)),
    ([3.0, 2.0, 2.1, 2.2, 2.3, 2.001], (20, 2.0)),
    ([1.0, 1.001, 1.002, 1.003, 1.004], None),  # level
    ([1, 2, 2, 0.5, 0.7, 0.6], None),  # a new lowest
    ([2.0, 2.1, 2.1, 2.1, 1.0, 1.1, 1.1, 1.1], (50, 1.0)),
    ([-1.0, -0.9, -0.9, -0.9], (10, -1.0)),  # the losses of msn can be negative
  ],
)
def test_when_a_curve_has_turned(losses, turn):
  assert turned(entries(losses)) == turn


def test_a_turn_is_reported_once(monkeypatch):
  """By a resumed run too, which has the losses before it from metrics.jsonl."""
  monkeypatch.setattr(HeldoutCurve, "__init__", lambda self, losses: setattr(self, "losses", entries(losses)))
  curve = HeldoutCurve([3.0, 2.0, 2.1, 2.2])
  assert curve.add(50, 2.3) == "step 50: the held-out loss has turned: 2.3000, lowest at step 20 with 2.0000"
  assert curve.add(60, 2.4) is None
  assert HeldoutCurve([3.0, 2.0, 2.1, 2.2, 2.3]).add(60, 2.4) is None
  assert curve.text == "2.4000, lowest 2.0000 at step 20"
