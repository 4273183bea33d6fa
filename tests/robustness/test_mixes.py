"""Training and scoring on several datasets by the command line, and what is refused about them."""

import json

import pytest

from data_pipelines.build import main as build
from tests import tiny

CHANNELS = {"first": ("pulse", "steps"), "second": ("glucose", "heart_rate")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("mixes")
  for name, channels in CHANNELS.items():
    tiny.dataset(folder, name, people=6 if name == "first" else 7, channels=channels)
  return folder


def on(folder, mix, **changes):
  names = [f"--config.data.dir={folder / 'data'}", f"--config.data.mix={mix}"]
  return [f"--config={tiny.CONFIG}", *tiny.overrides(**changes), *names]


def test_people_in_two_datasets(folder, tmp_path):
  """The two sets have people p0 to p5 in common."""
  ended = tiny.run(*on(folder, "(('first',1.0),('second',1.0))"), f"--workdir={tmp_path / 'run'}")
  assert ended.code == 2
  [line] = [line for line in ended.err.splitlines() if "participant" in line]
  assert "participant 'p0' is in dataset 'first' (pretrain) and in dataset 'second' (pretrain)" in line
  assert "--participant_prefix=second_" in line and not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize(
  ("mix", "message"),
  [
    ("(('first',1.0),('first',2.0))", "names 'first' more than once"),
    ("(('first',-1.0),)", "config.data.mix holds ('first', -1.0)"),
    ("(('third',1.0),)", "no dataset 'third'"),
    ("(('first',1.0),) --config.data.name=first", "leave one of them out"),
    (
      "(('first',1.0),) --config.data.minutes_per_step=7",
      "error: config.data.minutes_per_step is 7, expected 0 or a divisor of 1440",
    ),
    ("() --config.data.minutes_per_step=120 --config.data.name=first", "expected 0 without config.data.mix"),
  ],
)
def test_mixes_that_cannot_be_opened(folder, tmp_path, mix, message):
  mix, *more = mix.split(" ")
  ended = tiny.run(*on(folder, mix), *more, f"--workdir={tmp_path / 'run'}")
  assert ended.code == 2 and message in ended.err and "Traceback" not in ended.err


@pytest.mark.slow
def test_a_run_on_a_mix_goes_on_and_is_scored(folder, tmp_path):
  source = f"build --source=npz --input={folder / 'second.npz'} --data_dir={folder / 'data'} --name=other"
  assert build([*source.split(), "--participant_prefix=o_", "--split=0.5,0.2,0.3", "--overwrite"]) == 0
  workdir = f"--workdir={tmp_path / 'run'}"
  mix = "(('first',1.0),('other',3.0))"
  ended = tiny.run(*on(folder, mix, total_steps=2), workdir)
  assert ended.code == 0, ended.err
  assert "other: 75 % of what is drawn" in ended.out and "of 3 channels" in ended.out
  assert "--config.model.decoder.tokens=present" in ended.out
  weights = "(('first',1.0),('other',1.0))"
  refused = tiny.run(*on(folder, weights, total_steps=3), workdir)
  assert refused.code == 2 and "the mix first 1, other 3" in refused.err and "on_changed_mix=continue" in refused.err
  other_sets = tiny.run(*on(folder, "(('first',1.0),)", total_steps=3), workdir)
  assert other_sets.code == 2 and "dataset 'first'; train in another workdir" in other_sets.err
  again = tiny.run(*on(folder, weights, total_steps=3), "--config.data.on_changed_mix=continue", workdir)
  assert again.code == 0 and "going on from there" in again.out, again.err
  scored = tiny.run(*on(folder, weights), "--mode=evaluate", workdir)
  assert scored.code == 0, scored.err
  assert "never seen in training" in scored.out and "trained on dataset" not in scored.out
  log = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
  assert [line["step"] for line in log if line.get("loss") is not None] == [1, 2, 3]
