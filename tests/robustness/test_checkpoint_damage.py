"""Damage to a checkpoint: each is refused or without effect, an older checkpoint is taken, none is unnoticed."""

import json
import random
import shutil
import subprocess
import sys

import absl.logging
import jax
import numpy as np
import pytest

import aim
from aim.common import config_files
from aim.runtime import sharding
from aim.training import checkpoint, checkpoint_metadata
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.pretrain import TrainingRun
from benchmarks import damage
from tests import tiny

STEPS, EVERY = 6, 2


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("damage"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
  """The workdir of a run with checkpoints of steps 2, 4 and 6."""
  workdir = tmp_path_factory.mktemp("trained")
  ended = tiny.run(*command(dataset, workdir))
  assert ended.code == 0, ended.err
  assert checkpoint.complete_steps(workdir) == [2, 4, 6]
  return workdir


@pytest.fixture
def workdir(trained, tmp_path):
  return shutil.copytree(trained, tmp_path / "copy")


def command(dataset, workdir):
  flags = tiny.overrides(total_steps=STEPS, checkpoint__every_steps=EVERY)
  return [f"--config={tiny.CONFIG}", *tiny.on(dataset), *flags, f"--workdir={workdir}"]


def run_here(dataset, workdir):
  """The run of the command, in this process, on eight devices."""
  config = config_files.read(workdir / "config.json")
  config.batch_size = 8
  run = TrainingRun(config, workdir, dataset)
  run.metadata |= {"training_data": checkpoint_metadata.training_data(dataset)}
  return run


def state_to_go_on_from(dataset, workdir):
  with jax.set_mesh(sharding.make_mesh(8, 1, 1)):
    run = run_here(dataset, workdir)
    checkpoints = checkpoint.Checkpoints(workdir, EVERY, 3)
    try:
      return run.initial_state(checkpoints)
    finally:
      checkpoints.close()


def everything_read(step_path):
  """All that aim.load takes from a checkpoint, to the bit."""
  restored = checkpoint.read(step_path)
  arrays = {name: np.asarray(array).tobytes() for name, array in restored.params.items()}
  return restored.config.to_json(), repr((restored.schema, restored.scale, restored.training_data)), arrays


def test_flipped_bits_when_loaded(workdir):
  step_path = workdir / "checkpoints" / "6"
  expected, chance, refused = everything_read(step_path), random.Random(0), 0
  files = [path for path in sorted(step_path.rglob("*")) if path.is_file() and path.parts[-2] != "training"]
  for _ in range(25):
    path = chance.choice(files)
    whole = path.read_bytes()
    damage.flip_bit(path, chance.randrange(len(whole)), chance.randrange(8))
    try:
      assert everything_read(step_path) == expected, path
    except CheckpointError as error:
      assert str(step_path) in str(error) and "\n" not in str(error)
      refused += 1
    path.write_bytes(whole)
  assert 5 <= refused <= 20


def test_the_array_is_named(workdir, monkeypatch):
  """Damage that Orbax does not notice."""
  as_read = checkpoint.checksums
  monkeypatch.setattr(checkpoint, "checksums", lambda item: as_read(item) | {"bridge/kernel": "0" * 16})
  message = "checkpoints/6: is damaged: ema: array 'bridge/kernel' is not what was saved"
  with pytest.raises(CheckpointError, match=message):
    checkpoint.read(workdir / "checkpoints" / "6")


@pytest.mark.slow
def test_flipped_bits_when_loaded_and_when_resumed(dataset, workdir):
  with jax.set_mesh(sharding.make_mesh(8, 1, 1)):
    flips = list(damage.trial(run_here(dataset, workdir), 100, seed=1))
  outcomes = {(flip.load, flip.resume) for flip in flips}
  assert not any("unnoticed" in outcome for outcome in outcomes), flips
  assert ("refused", "refused") in outcomes and ("no effect", "no effect") in outcomes


EMPTIED = (
  "params/_METADATA",
  "ema/_METADATA",
  "training/_METADATA",
  "params/array_metadatas/process_0",
  "params/_sharding",
  "params/manifest.ocdbt",
  "_CHECKPOINT_METADATA",
)


@pytest.mark.parametrize("lost", [False, True], ids=["emptied", "lost"])
@pytest.mark.parametrize("name", EMPTIED)
def test_an_empty_or_lost_file(workdir, name, lost, capsys):
  newest = workdir / "checkpoints" / "6"
  expected = everything_read(newest)
  (newest / name).unlink() if lost else (newest / name).write_bytes(b"")
  capsys.readouterr()
  if aim.load(workdir).trained_steps == 6:  # nothing is needed of that file
    assert everything_read(newest) == expected
    return
  reason, taken = capsys.readouterr().out.splitlines()
  assert reason.startswith(f"{newest}: ") and reason.endswith("; left out")
  assert taken == f"{workdir}: the checkpoint of step 4 is used, the newest that can be read"
  with pytest.raises(CheckpointError, match=str(newest)):
    aim.load(newest)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("params/array_metadatas/process_0", "params/_sharding")]


@pytest.mark.parametrize("name", ["ema/_METADATA", *SLOW])
def test_a_run_goes_on_from_the_newest_good_checkpoint(dataset, workdir, trained, name):
  (workdir / "checkpoints" / "6" / name).write_bytes(b"")
  ended = tiny.run(*command(dataset, workdir))
  assert ended.code == 0 and "Traceback" not in ended.err, ended.err
  (line,) = [line for line in ended.out.splitlines() if "; renamed to 6.damaged" in line]
  assert line.startswith(f"{workdir}/checkpoints/6: ")
  assert f"{workdir}: checkpoint at step 4: going on from there" in ended.out
  assert everything_read(workdir / "checkpoints" / "6") == everything_read(trained / "checkpoints" / "6")


DROPPED = """
import types
from aim.training import checkpoint

@types.coroutine
def forever():
  yield

async def read():
  try:
    await forever()
  except BaseException as error:
    raise Exception("an array is not read") from error

class Other:
  def __del__(self):
    raise ValueError("another fault")

checkpoint.hide_orbax_noise()
dropped = read()
dropped.send(None)
del dropped
Other()
"""


@pytest.mark.slow
def test_reads_that_are_dropped_after_an_error_print_nothing():
  """As Orbax drops those in progress when another one has failed; whether there are any is chance."""
  command = [sys.executable, "-c", DROPPED]
  ended = subprocess.run(command, cwd=tiny.ROOT, env=tiny.environment(), capture_output=True, text=True)
  assert ended.returncode == 0 and "an array is not read" not in ended.stderr, ended.stderr
  assert "ValueError: another fault" in ended.stderr


def moved(checkpoints):
  (checkpoints / "4").rename(checkpoints / "40")
  return 4, 40


def copied(checkpoints):
  shutil.copytree(checkpoints / "2", checkpoints / "9")
  return 2, 9


def linked(checkpoints):
  (checkpoints / "9").symlink_to("2")
  return 2, 9


@pytest.mark.parametrize("change", [moved, copied, linked])
def test_a_folder_of_another_step(dataset, workdir, change, capsys):
  """An older model under a newer number is not taken for the newest."""
  step, name = change(workdir / "checkpoints")
  folder = workdir / "checkpoints" / str(name)
  reason = f"{folder}: is the checkpoint of step {step}, its folder says {name}"
  capsys.readouterr()
  assert aim.load(workdir).trained_steps == 6
  taken = f"{workdir}: the checkpoint of step 6 is used, the newest that can be read"
  assert capsys.readouterr().out.splitlines() == [f"{reason}; left out", taken]
  with pytest.raises(CheckpointError, match=reason):
    aim.load(folder)
  if change is linked:  # twice
    folder.with_name("9.damaged").symlink_to("2")
  checkpoints = checkpoint.Checkpoints(workdir, EVERY, 3)
  checkpoints.close()
  assert checkpoints.latest == 6 and checkpoint.complete_steps(workdir)[-1] == 6
  assert capsys.readouterr().out == f"{reason}; renamed to {name}.damaged\n"


def test_a_folder_of_another_step_from_before_steps_were_stored(dataset, workdir, capsys):
  """The step among the arrays tells it to a run that goes on."""
  for step in (2, 4, 6):
    path = workdir / "checkpoints" / str(step) / "_CHECKPOINT_METADATA"
    stored = json.loads(path.read_text())
    metadata = {key: stored["custom_metadata"][key] for key in ("config", "schema", "statistics", "training_data")}
    stored["custom_metadata"] = checkpoint_metadata.sealed(metadata, stored["custom_metadata"]["checksums"])
    path.write_text(json.dumps(stored))
  assert aim.load(workdir).trained_steps == 6
  (workdir / "checkpoints" / "2").rename(workdir / "checkpoints" / "9")
  assert int(state_to_go_on_from(dataset, workdir)["step"]) == 6
  assert "9: is the checkpoint of step 2, its folder says 9; renamed to 9.damaged\n" in capsys.readouterr().out


@pytest.mark.parametrize("truncated", [False, True], ids=["flipped", "truncated"])
def test_a_run_does_not_go_on_from_damaged_parameters_beside_an_intact_average(dataset, workdir, truncated, capsys):
  newest = workdir / "checkpoints" / "6"
  path = max((newest / "params").rglob("d/*"), key=lambda file: file.stat().st_size)
  whole = path.read_bytes()
  if truncated:
    path.write_bytes(whole[: len(whole) // 2])
  else:
    damage.flip_bit(path, len(whole) // 2, 3)
  assert int(state_to_go_on_from(dataset, workdir)["step"]) == 4
  (line,) = [line for line in capsys.readouterr().out.splitlines() if "renamed to 6.damaged" in line]
  assert line.startswith(f"{newest}: ") and "params" in line


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "ema/_METADATA", "params/_sharding"])
def test_orbax_logs_nothing_about_damage_that_is_told_anyway(workdir, name, caplog, capsys):
  """From Python, where nobody has set how loud its logger is."""
  (workdir / "checkpoints" / "6" / name).write_bytes(b"x{")
  aim.load(workdir)
  assert caplog.messages == [] and capsys.readouterr().err == ""
  absl.logging.warning("of somebody else")
  assert caplog.messages == ["of somebody else"]
  assert not absl.logging.get_absl_logger().filters


@pytest.mark.parametrize("key", ["config", "schema", "statistics", "checksums", "format", "step", "digest"])
def test_a_changed_or_lost_part_of_the_metadata(workdir, key):
  """A checkpoint that lost its digest or format cannot pass for one of the version that had none."""
  path = workdir / "checkpoints" / "6" / "_CHECKPOINT_METADATA"
  stored = json.loads(path.read_text())
  del stored["custom_metadata"][key]
  path.write_text(json.dumps(stored))
  with pytest.raises(CheckpointError, match="is damaged: its metadata are not what was saved"):
    aim.load(workdir / "checkpoints" / "6")
  assert aim.load(workdir).trained_steps == 4


def test_no_checkpoint_can_be_read(workdir):
  for step in (2, 4, 6):
    (workdir / "checkpoints" / str(step) / "ema" / "_METADATA").write_bytes(b"")
  with pytest.raises(CheckpointError, match="none of its 3 checkpoints can be read"):
    aim.load(workdir)


def test_a_dataset_that_changed_under_its_name(dataset, trained, workdir, tmp_path, monkeypatch, capsys):
  """Two days of a training person changed places, which changes no statistics."""
  changed = tiny.arrays()
  changed["values"][[0, 1]] = changed["values"][[1, 0]]
  monkeypatch.setattr(tiny, "arrays", lambda: changed)
  (tmp_path / "other").mkdir()
  other = tiny.dataset(tmp_path / "other")
  assert other.name == dataset.name and other.digest != dataset.digest
  ended = tiny.run(*command(other, workdir), "--config.total_steps=8")
  assert ended.code == 2 and len(ended.err.splitlines()) == 1
  assert "the training days of dataset 'tiny' are not those that it was trained on" in ended.err
  model = aim.load(trained)
  capsys.readouterr()
  model.check_unseen_people(dataset)
  assert capsys.readouterr().out == ""
  model.check_unseen_people(other)
  assert capsys.readouterr().out == (
    "note: the content of dataset 'tiny' has changed since the model was trained on it; its split eval: 3 people never "
    "seen in training\n"
  )
  more = tiny.dataset(tmp_path / "other", "more", evaluated=4)
  capsys.readouterr()
  model.check_unseen_people(more)
  assert capsys.readouterr().out == (
    "note: the model was trained on dataset 'tiny', this is 'more'; its split eval: 4 people, of whom 1 was trained on "
    "(by their ids)\n"
  )
