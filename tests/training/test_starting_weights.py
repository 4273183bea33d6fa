"""Runs that start from the weights of another: which are taken, by which channels, what is frozen, how they go on."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import aim
from aim.common import config_files
from aim.common.config_files import ConfigError
from aim.inference.pretrained import Pretrained
from aim.runtime import sharding
from aim.training import checkpoint, starting_weights
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.pretrain import TrainingRun
from tests import tiny
from tests.training.test_resume import bits

NOWHERE = pathlib.Path("nowhere")
CHANNELS = ("pulse", "steps", "asleep")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("starting_weights")


@pytest.fixture(scope="module")
def dataset(folder):
  return tiny.dataset(folder, channels=CHANNELS)


@pytest.fixture(scope="module")
def source(folder, dataset):
  """The workdir of two steps with a moving average."""
  ended = tiny.run(f"--config={tiny.CONFIG}", *tiny.on(dataset), *overrides(total_steps=2), f"--workdir={folder}/a")
  assert ended.code == 0, ended.err
  return folder / "a"


def overrides(**changes) -> list[str]:
  """A tiny model with the interpolation skip, which has a parameter with a row per channel."""
  return tiny.overrides(**({"model__interpolation_skip": True, "model__skip_evidence": "smooth"} | changes))


def one_device() -> jax.sharding.Mesh:
  return sharding.make_mesh(1, 1, 1, planned=jax.devices()[:1])


def planned(dataset, source, **changes) -> TrainingRun:
  """The run of a config that starts from `source`, before anything is compiled."""
  flags = [*tiny.on(dataset), *overrides(**changes), f"--config.init.checkpoint={source}"]
  with jax.set_mesh(one_device()):
    return TrainingRun(config_files.resolve(tiny.CONFIG, flags), NOWHERE, dataset)


def first_model(run: TrainingRun) -> Pretrained:
  """The model of a run before its first step."""
  restored = checkpoint.without_params(run.metadata, 0, "test")
  with jax.set_mesh(run.mesh):
    state = run.start.applied(run.step.init(jax.random.key(0)), run.shardings)
  return Pretrained(dataclasses.replace(restored, params=state["ema"]))


def test_the_first_model_is_the_source(source, dataset):
  run, model = planned(dataset, source), aim.load(source)
  ours, days = first_model(run), tiny.arrays(channels=CHANNELS)["values"][:4]
  np.testing.assert_array_equal(ours.embed(days), model.embed(days))
  np.testing.assert_array_equal(ours.impute(days), model.impute(days))
  assert run.start.entry["taken"] == len(model.params) and run.start.entry["fresh"] == []
  assert run.metadata["statistics"] == model_statistics(source)
  assert run.step.init(jax.random.key(0))["step"] == 0


def model_statistics(workdir):
  return checkpoint.read(workdir).metadata["statistics"]


def test_channels_are_found_by_name_and_keep_their_places(source, folder):
  """Among others, in another order, under an alias, and some of them absent: the same embedding of what is there."""
  other = ("glucose", "steps", "heart_rate")
  run = planned(tiny.dataset(folder, "other", channels=other), source)
  assert run.step.architecture.places == (3, 1, 0)
  days = tiny.arrays(channels=other)["values"][:4]
  days[..., 0] = np.nan
  theirs = np.stack([days[..., 2], days[..., 1], np.full_like(days[..., 0], np.nan)], axis=-1)
  np.testing.assert_allclose(first_model(run).embed(days), aim.load(source).embed(theirs), rtol=0, atol=2e-6)
  entry, kept = run.start.entry, model_statistics(source)
  curves, there = run.start.params["skip_curves"], aim.load(source).params["skip_curves"]
  assert np.abs(there).max() > 0
  np.testing.assert_array_equal(curves, np.stack([np.zeros_like(there[0]), there[1], there[0]]))
  assert entry["channels"] == {"steps": "steps", "heart_rate": "pulse"}
  assert (entry["new_channels"], entry["left_out"], entry["measured"]) == (["glucose"], ["asleep"], ["glucose"])
  assert run.metadata["statistics"]["mean"][1:] == [kept["mean"][1], kept["mean"][0]]
  assert "new: glucose" in run.start.text and "heart_rate (there pulse)" in run.start.text
  assert entry["unlike"] == [] and "unlike" not in run.start.text
  vocabulary = planned(tiny.dataset(folder, "other", channels=other), source, model__places="vocabulary")
  assert vocabulary.step.architecture.places[1:] == (1, 0) and vocabulary.step.architecture.places[0] > 3
  measured = planned(tiny.dataset(folder, "other", channels=other), source, init__statistics="data")
  assert measured.start.entry["measured"] == list(other)
  assert measured.metadata["statistics"]["mean"] != run.metadata["statistics"]["mean"]


def test_context_is_fresh_in_a_run_that_starts_without(source, dataset):
  run = planned(dataset, source, model__context_days=3)
  assert {name.split("/")[0] for name in run.start.entry["fresh"]} == {
    "context_curves", "context_embedding", "context_head"
  }  # fmt: skip
  assert run.start.entry["taken"] == len(aim.load(source).params)


def test_what_depends_on_a_patch_is_fresh_if_patches_are_others(source, folder, dataset):
  fresh = {"patch_embedding/kernel", "patch_embedding/bias", "head/kernel", "head/bias"}
  assert fresh <= set(planned(dataset, source, model__patch_minutes=240).start.entry["fresh"])
  assert "a patch has 2 values there and 4 here" in planned(dataset, source, model__patch_minutes=240).start.text
  half = tiny.dataset(folder, "half", channels=CHANNELS, minutes_per_step=30)
  assert planned(half, source, model__patch_minutes=60).start.entry["fresh"] == []
  # What is counted in a step of another length has the statistics of the data.
  assert planned(half, source, model__patch_minutes=60).start.entry["measured"] == ["steps"]


def test_the_encoder_alone(source, dataset):
  changes = {"model__decoder__width": 8, "model__evidence_embedding": "after"}
  entry = planned(dataset, source, init__parts="encoder", **changes).start.entry
  assert entry["fresh"] and not any(name.startswith(("encoder", "patch_embedding")) for name in entry["fresh"])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"model__encoder__width": 32, "model__decoder__mlp": 64},
      "is of another architecture: model.encoder.width is 16 there, 32 in this config, model.decoder.mlp is 32 there, "
      "64 in this config",
    ),
    (
      {"model__decoder__width": 8},
      "model.decoder.width is 16 there, 8 in this config; set it as there, or take the encoder alone",
    ),
    (
      {"model__evidence_embedding": "after"},
      "is of another architecture: model.evidence_embedding is before there, after in this config",
    ),
    ({"init__frozen": "('enc',)"}, "config.init.frozen holds 'enc', which begins no parameter; there are bridge, "),
    (
      {"init__parts": "encoder", "init__frozen": "('head',)"},
      "config.init.frozen holds 'head', but head/bias is not taken and would stay random",
    ),
    ({"init__checkpoint": "nowhere"}, "/nowhere: no such folder; expected a workdir"),
    ({"init__checkpoint": "", "init__frozen": "('encoder',)"}, "config.init.frozen is ('encoder',), expected ():"),
    ({"init__checkpoint": "", "init__learning_rate": 0.5}, "config.init.learning_rate is 0.5, expected 1.0:"),
  ],
)
def test_what_does_not_fit_is_one_line(source, dataset, changes, message):
  flags = [*tiny.on(dataset), *overrides(**{"init__checkpoint": source} | changes)]
  with pytest.raises((ConfigError, CheckpointError)) as error, jax.set_mesh(one_device()):
    TrainingRun(config_files.resolve(tiny.CONFIG, flags), NOWHERE, dataset)
  assert message in str(error.value) and "\n" not in str(error.value)


def test_a_run_from_weights_goes_on_without_them(source, dataset, folder, tmp_path):
  """Frozen parameters stay to the bit, and a run that lost its last steps, and its source, ends as the unbroken one."""
  moved = shutil.copytree(source, tmp_path / "source")
  changes = {"total_steps": 4, "checkpoint__every_steps": 2, "init__learning_rate": 0.5}
  base = [f"--config={tiny.CONFIG}", *tiny.on(dataset), f"--workdir={tmp_path}/run"]
  start = {"init__checkpoint": moved, "init__frozen": "('patch_embedding','encoder')"}
  command = [*base, *overrides(**changes, **start)]
  ended = tiny.run(*command)
  assert ended.code == 0, ended.err
  assert "frozen: patch_embedding, encoder" in ended.out and "learning rate: times 0.5" in ended.out
  theirs, ours = checkpoint.read(source), checkpoint.read(tmp_path / "run")
  for name, leaf in theirs.params.items():
    same = np.array_equal(ours.params[name], leaf)
    assert same == name.startswith(("patch_embedding", "encoder")), name
  (entry,) = ours.metadata["history"]
  assert entry["step"] == 2 and entry["training_data"]["content"] == dataset.digest
  assert not any("encoder/blocks" in name for name, *_ in bits(tmp_path / "run", 4) if "mu" in name)
  unbroken = bits(tmp_path / "run", 4)
  shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
  shutil.rmtree(moved)
  again = tiny.run(*command)
  assert again.code == 0, again.err
  assert bits(tmp_path / "run", 4) == unbroken and "started from" not in again.out
  assert json.loads((tmp_path / "run" / "config.json").read_text())["init"]["learning_rate"] == 0.5
  other = tiny.run(*command, "--config.init.learning_rate=1.0")
  assert other.code == 2 and "had another start: config.init.learning_rate is 0.5 there, 1.0 in this" in other.err
  none = tiny.run(*base, *overrides(total_steps=4, checkpoint__every_steps=2))
  assert none.code == 2 and "had another start: config.init.checkpoint is" in none.err


@pytest.mark.parametrize("mode", [["--mode=pretrain"], ["--mode=preflight", "--topology=local"]])
def test_a_missing_checkpoint_is_told_before_compiling(dataset, tmp_path, mode):
  flags = overrides(init__checkpoint=tmp_path / "gone")
  ended = tiny.run(*mode, f"--config={tiny.CONFIG}", *tiny.on(dataset), *flags, f"--workdir={tmp_path}/run")
  assert ended.code == 2 and ended.err.startswith(f"error: {tmp_path}/gone: no such folder; expected a workdir")
  assert len(ended.err.splitlines()) == 1 and "compil" not in ended.out


@pytest.mark.parametrize(
  ("parts", "tokens", "told"), [("all", "visible", 1), ("encoder", "visible", 0), ("all", "", 0)]
)
def test_another_decoder_is_told(source, dataset, parts, tokens, told):
  changes = {"init__checkpoint": source, "init__parts": parts} | ({"model__decoder__tokens": tokens} if tokens else {})
  config = config_files.resolve(tiny.CONFIG, [*tiny.on(dataset), *overrides(**changes)])
  start = starting_weights.start_of(config, NOWHERE, dataset.schema, model_statistics(source))
  line = "the decoder is of model.decoder.tokens=refined, and goes on as visible"
  assert start.text.count(line) == told


def test_data_unlike_those_of_the_weights_are_told(source, dataset):
  kept = model_statistics(source)
  shifted = kept | {"mean": [kept["mean"][0] + 3 * kept["std"][0], *kept["mean"][1:]]}
  for statistics, told in (("checkpoint", ["pulse: mean +3.0 SDs away, SD 1.00 times as large"]), ("data", [])):
    flags = [*tiny.on(dataset), *overrides(init__checkpoint=source, init__statistics=statistics)]
    start = starting_weights.start_of(config_files.resolve(tiny.CONFIG, flags), NOWHERE, dataset.schema, shifted)
    assert start.entry["unlike"] == told
    assert ("unlike" in start.text) == bool(told)
