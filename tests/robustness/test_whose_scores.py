"""One model's scores are never shown as those of another: not with --checkpoint, nor after more training."""

import shutil

import pytest

from aim import commands
from aim.common.config_files import ConfigError
from aim.evaluation.results import Result, write_csv
from aim.evaluation.scored_model import ScoredModel, record
from aim.inference import loading
from aim.report import tables
from aim.report.workdir import Workdir
from experiments import default
from tests import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """The workdir of a run with checkpoints of steps 3 and 6."""
  folder = tmp_path_factory.mktemp("whose")
  flags = tiny.overrides(checkpoint__every_steps=3)
  ended = tiny.run(f"--config={tiny.CONFIG}", *tiny.on(tiny.dataset(folder)), *flags, f"--workdir={folder}/run")
  assert ended.code == 0, ended.err
  return folder / "run"


def opened(workdir, checkpoint):
  arguments = commands.Arguments("evaluate", default.get_config(), str(workdir), str(checkpoint))
  return arguments.opened_for_scores()[1]


def test_a_workdir_keeps_the_scores_of_its_newest_checkpoint_only(trained, tmp_path):
  other = shutil.copytree(trained, tmp_path / "other")
  for checkpoint in (trained / "checkpoints" / "3", other, "lsm2-watch-xs"):
    with pytest.raises(ConfigError) as error:
      opened(trained, checkpoint)
    assert str(error.value) == (
      f"--checkpoint={checkpoint}: --workdir={trained} keeps the scores of its own newest checkpoint, step 6; name "
      "another --workdir for the scores of this one"
    )
  for checkpoint in (trained, f"{trained}/", trained / "checkpoints" / "6"):
    assert opened(trained, checkpoint) == trained
  assert opened(tmp_path / "new", trained / "checkpoints" / "3") == tmp_path / "new"


def test_a_card_and_a_page_have_scores_of_their_model_only(trained, tmp_path):
  """Here the scores are of step 3, as if the run had gone on after it was scored."""
  run = shutil.copytree(trained, tmp_path / "run")
  write_csv(run / "generative.csv", [Result("tiny", "random", "80 %", "LSM-2", "mse", 0.123456, 0.1, 0.2, 9, 0)])
  record(run, "evaluate", ScoredModel.of(loading.load(run / "checkpoints" / "3")))
  for flags, shown in (((), False), ((f"--checkpoint={run}/checkpoints/3",), True)):
    output = tmp_path / f"{shown}"
    exported = tiny.run("--mode=export", f"--workdir={run}", *flags, f"--output={output}")
    assert exported.code == 0, exported.err
    assert ("0.123" in (output / "README.md").read_text()) == shown
    assert ("its scores are of LSM-2 at step 3" in exported.out) != shown
  for checkpoint, shown in ((run, False), (run / "checkpoints" / "3", True)):
    workdir = Workdir(run, commands.saved_config(run), commands.open_dataset, checkpoint)
    assert bool(workdir.results("generative")) == shown
    text = str(tables.section([workdir], "generative").blocks)
    assert ("0.123" in text) == shown and ("its scores are of LSM-2 at step 3" in text) != shown
