"""Eight devices compute what one computes, each its own part of the days."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

from aim.evaluation.finetuning.networks import encoder_network
from aim.evaluation.finetuning.trainer import Trainer
from aim.evaluation.results import read_csv
from aim.inference.window_embeddings import embed_windows
from tests import tiny
from tests.evaluation.finetuning.small_networks import SIZES, config, examples
from tests.evaluation.finetuning.test_run import RUN, labelled
from tests.inference.test_pretrained import days, pretrained


@pytest.mark.parametrize("attention", ["native", pytest.param("xla", marks=pytest.mark.slow)])
def test_results_are_those_of_one_device(attention):
  one, eight = (pretrained(devices=count, model__attention=attention) for count in (1, 8))
  values = days(13)
  target = np.random.default_rng(1).random(values.shape) < 0.2
  close = lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
  for pool in ("mean_std", "channel"):
    close(eight.embed(values, pool), one.embed(values, pool))
  close(eight.encode_tokens(values), one.encode_tokens(values))
  close(eight.reconstruct(values)[target], one.reconstruct(values, target)[target])
  windows = np.array([0, 12, 12]), np.array([0, 0, 5]), np.array([24, 3, 11])
  close(embed_windows(eight, values, *windows), embed_windows(one, values, *windows))
  filled = eight.impute(values)
  np.testing.assert_array_equal(filled[~np.isnan(values)], values[~np.isnan(values)])


@pytest.mark.parametrize("devices", [3, 8])
def test_every_device_computes_an_equal_part(devices):
  trained = pretrained(devices=devices, batch_size=2)
  device = lambda params, values, sizes: jnp.full(len(values), jax.lax.axis_index("data"))
  computed_by = trained.map_days("device", device, days(2 * devices))
  assert np.bincount(computed_by, minlength=devices).tolist() == [2] * devices
  assert {shard.device for leaf in trained.params_on_mesh.values() for shard in leaf.addressable_shards} == set(
    jax.local_devices()[:devices]
  )


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [5, 8])
def test_finetuning_is_that_of_one_device(batch_size):
  """A batch that the devices do not divide is padded with examples that do not count."""
  fitted = []
  for devices in (1, 8):
    network = encoder_network(pretrained(devices=devices), 2, SIZES)
    trainer = Trainer(network, config(batch_size=batch_size, steps=4, tune_every=2), 1e-3)
    fitted.append((trainer.fit(examples(11), examples(5, seed=1), 0), trainer))
  (one, _), (eight, trainer) = fitted
  np.testing.assert_allclose(eight.curve, one.curve, rtol=1e-5)
  for name, leaf in one.params.items():
    # A step is 1e-3 for any gradient, so that rounding shows where a gradient is near 0.
    np.testing.assert_allclose(eight.params[name], leaf, rtol=1e-4, atol=5e-5, err_msg=name)
  assert trainer.size == 8 and len(eight.params["encoder/norm/scale"].addressable_shards) == 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return labelled(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("trained")
  assert tiny.run(f"--config={tiny.CONFIG}", *tiny.on(dataset), *tiny.overrides(), f"--workdir={workdir}").code == 0
  return workdir


@pytest.mark.slow
def test_the_command_line_embeds_alike(dataset, trained, tmp_path):
  tables = {}
  for devices in (1, 8):
    path = tmp_path / f"{devices}.parquet"
    data = f"--data={dataset.name}", f"--data_dir={dataset.path.parents[2]}"
    ended = tiny.run("--mode=embed", f"--checkpoint={trained}", *data, f"--output={path}", devices=devices)
    assert ended.code == 0, ended.err
    tables[devices] = pq.read_table(path).to_pydict()
  one, eight = tables[1], tables[8]
  assert eight["participant"] == one["participant"] and eight["date"] == one["date"]
  for name in one:
    if name.startswith("e"):
      np.testing.assert_allclose(eight[name], one[name], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_every_mode_scores_alike(dataset, trained, tmp_path):
  probe = {key: value for key, value in RUN.items() if key.startswith("probe.")} | {
    "probe.tasks": "('fast', 'walking')"
  }
  finetune = RUN | {"finetune.tasks": "('fast',)", "finetune.label_percent": 100, "finetune.compare": "('resnet',)"}
  changes = {"evaluate": {}, "heldout": {}, "probe": probe, "robustness": probe, "finetune": finetune}
  for mode, settings in changes.items():
    for devices in (1, 8):
      where = [f"--checkpoint={trained}", f"--workdir={tmp_path}/{devices}", f"--mode={mode}"]
      flags = [f"--config.{key}={value}" for key, value in settings.items()]
      on = [f"--config={tiny.CONFIG}", *tiny.on(dataset), *tiny.overrides()]
      ended = tiny.run(*on, *flags, *where, devices=devices)
      assert ended.code == 0, ended.err
  losses = [json.loads((tmp_path / devices / "heldout.json").read_text())["loss"] for devices in "18"]
  assert losses[0] == pytest.approx(losses[1], rel=1e-5)
  for file in ("generative.csv", "probe/results.csv", "robustness/results.csv", "finetune/results.csv"):
    one, eight = (read_csv(tmp_path / devices / file) for devices in "18")
    assert [(r.task, r.level, r.model, r.metric) for r in one] == [(r.task, r.level, r.model, r.metric) for r in eight]
    np.testing.assert_allclose([r.value for r in eight], [r.value for r in one], rtol=1e-3, atol=1e-3, err_msg=file)
