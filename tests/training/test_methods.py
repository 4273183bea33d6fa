"""LSM-1, SimCLR, DINO and MSN by the command line: one loop, log, checkpoint format and loader for all of them."""

import json
import shutil

import numpy as np
import pytest

import aim
from aim.inference.pretrained import Pretrained
from aim.training import checkpoint
from data_pipelines.errors import SchemaError
from data_pipelines.loader import train_loader
from tests import tiny
from tests.training.test_resume import bits, checkpoint_steps

STEPS, EVERY = 9, 3
METHODS = ("lsm1", "simclr", "dino", "msn")
NAMES = {"lsm1": "LSM-1", "simclr": "SimCLR", "dino": "DINO", "msn": "MSN"}
CHANGES = {
  "total_steps": STEPS,
  "form": "auto",
  "checkpoint__every_steps": EVERY,
  "checkpoint__keep": 100,
  "optimizer__accumulate": 2,
  "model__patch_channels": 2,
  "views__prototypes": 16,
  "views__projection__hidden": 16,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("methods"))


def command(method, dataset, workdir, **changes):
  ema = {"optimizer__ema": 0.9 if method in ("lsm1", "simclr") else 0.0}
  flags = tiny.overrides(**(CHANGES | ema | changes))
  return [f"--config=experiments/{method}_xs.py", *tiny.on(dataset), *flags, f"--workdir={workdir}"]


# `make test` checks resuming for one method, `make test-all` for all.
@pytest.fixture(
  scope="module", params=[METHODS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS[1:])]
)
def trained(request, dataset, tmp_path_factory):
  workdir = tmp_path_factory.mktemp(request.param)
  ended = tiny.run(*command(request.param, dataset, workdir))
  assert ended.code == 0, ended.err
  assert checkpoint_steps(workdir) == [3, 6, 9]
  return request.param, workdir


def test_a_resumed_run_ends_bit_for_bit_as_an_unbroken_one(trained, dataset, tmp_path):
  method, workdir = trained
  shutil.copytree(workdir, tmp_path / "copy")
  for step in (6, 9):
    shutil.rmtree(tmp_path / "copy" / "checkpoints" / str(step))
  ended = tiny.run(*command(method, dataset, tmp_path / "copy"))
  assert ended.code == 0, ended.err
  assert "checkpoint at step 3: going on from there" in ended.out
  for step in (3, 6, 9):
    assert bits(tmp_path / "copy", step) == bits(workdir, step)
  records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  assert [record["step"] for record in records] == list(range(1, STEPS + 1))
  assert len({record["compilations"] for record in records[1:]}) == 1
  for record in records:
    assert np.isfinite(record["loss"]) and 0 < record["useful_flops_share"] <= 1
    assert 0 <= record["padding_share"] < 1
    assert ("embedding_spread" in record) == (method != "lsm1")


def test_a_trained_model_is_loaded_and_used(trained, dataset, tmp_path):
  method, workdir = trained
  model = aim.load(workdir)
  assert isinstance(model, Pretrained)
  assert (model.name, model.has_decoder) == (NAMES[method], method == "lsm1")
  values = np.stack([day["values"] for day in dataset.days("eval")])
  embedding = model.embed(values)
  assert embedding.shape == (len(values), 16) and np.isfinite(embedding).all()
  assert len(np.unique(embedding, axis=0)) == len(values)
  if model.has_decoder:
    assert np.isfinite(model.reconstruct(values)).all()
    return
  for call in (model.reconstruct, model.impute):
    with pytest.raises(SchemaError, match=f"{model.name} has no decoder, it makes embeddings alone") as error:
      call(values)
    assert "\n" not in str(error.value)
  source = tmp_path / "days.npz"
  tiny.write_npz(source)
  ended = tiny.run("--mode=impute", f"--workdir={workdir}", f"--input={source}", f"--output={tmp_path}/out.npz")
  assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_only_models_with_a_decoder_are_evaluated(trained, dataset):
  method, workdir = trained
  ended = tiny.run(*command(method, dataset, workdir), "--mode=evaluate")
  if method == "lsm1":
    assert ended.code == 0, ended.err
    assert "LSM-1" in (workdir / "generative.csv").read_text()
  else:
    assert ended.code == 2
    assert (
      ended.err.startswith(f"error: --mode=evaluate: {NAMES[method]} has no decoder") and ended.err.count("\n") == 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("change", ["method=simclr", "data.impute=none", "views.prototypes=8"])
@pytest.mark.parametrize("trained", ["dino"], indirect=True)  # one method is enough
def test_a_run_does_not_resume_as_another_method(trained, dataset, change):
  method, workdir = trained
  ended = tiny.run(*command(method, dataset, workdir), f"--config.{change}")
  key = change.partition("=")[0]
  assert ended.code == 2
  assert f"is of another architecture: {key} is " in ended.err


@pytest.mark.slow
def test_training_on_nearly_complete_days_alone(dataset, tmp_path):
  shares = np.array([np.isnan(day["values"]).mean() for day in dataset.days("pretrain")])
  limit = float(np.sort(shares)[3])
  chosen = dataset.days_within("pretrain", limit)
  assert chosen.tolist() == np.flatnonzero(shares.astype(np.float32) <= limit).tolist() and len(chosen) < len(shares)
  expected = {dataset.days("pretrain")[int(i)]["values"].tobytes() for i in chosen}
  with train_loader(dataset, batch_size=3, seed=0, max_missing=limit) as loader:
    batches = [next(loader)["values"] for _ in range(6)]
  assert {day.tobytes() for batch in batches for day in batch} == expected
  with train_loader(dataset, batch_size=3, seed=0, max_missing=limit, start_step=4) as loader:
    np.testing.assert_array_equal(next(loader)["values"], batches[4])
  assert (dataset.path / "missing_pretrain.npz").is_file()

  flags = command("lsm1", dataset, tmp_path, total_steps=2, data__max_missing=limit)
  ended = tiny.run(*flags)
  assert ended.code == 0, ended.err
  assert f"kept {len(chosen)} of {len(shares)} days" in ended.out
  ended = tiny.run(*command("lsm1", dataset, tmp_path / "none", data__max_missing=0.0))
  assert ended.code == 2
  assert "error: max_missing is 0.0: no day of 10 in split 'pretrain'" in ended.err


def test_a_checkpoint_records_the_method(trained):
  method, workdir = trained
  restored = checkpoint.read(workdir)
  assert (restored.architecture.projection is None) == (method == "lsm1")
  assert restored.config.method == ("mae" if method == "lsm1" else method)
