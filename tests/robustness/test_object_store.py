"""A user's whole way with dataset and workdir in an object store ends as it does on a local disk."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
import types

import gcsfs
import jax.numpy as jnp
import numpy as np
import pytest

import aim
from aim import commands
from aim.runtime import working_copy
from aim.training.checkpoint import CheckpointError, Checkpoints
from data_pipelines.build import build, npz_request
from data_pipelines.npz import NpzSource
from data_pipelines.remote import copies
from data_pipelines.remote.cache_dir import cache_folder
from data_pipelines.remote.objects import RemoteError, RemoteFolder
from experiments import default
from tests import object_store, tiny

STEPS, EVERY = 30, 5


@pytest.fixture(scope="module")
def store(tmp_path_factory):
  """A bucket that all processes see: (environment variables, its dataset as it is on disk)."""
  folder = tmp_path_factory.mktemp("store")
  with object_store.served(folder) as variables, pytest.MonkeyPatch.context() as environ:
    for name, value in variables.items():
      environ.setenv(name, value)
    built(f"{object_store.BUCKET}/data", folder)
    yield variables, tiny.dataset(folder)


def built(data_dir, folder):
  """The dataset of tiny.dataset(folder), built into a remote data directory."""
  local = tiny.dataset(folder)
  path, split = folder / "tiny.npz", tiny.ListSplit(tuple(local.people("pretrain")), (), tuple(local.people("eval")))
  return build(NpzSource(path), data_dir, "tiny", split=split, request=npz_request(path))


def run(*flags, **variables):
  ended = tiny.run(*flags, variables=variables)
  assert ended.code == 0, ended.err
  return ended.out


def flags(data_dir, workdir, **changes):
  where = (f"--config.data.dir={data_dir}", "--config.data.name=tiny", f"--workdir={workdir}")
  return (f"--config={tiny.CONFIG}", *where, *tiny.overrides(**changes))


def losses(remote):
  lines = map(json.loads, remote.read("metrics.jsonl").decode().splitlines())
  return [(line["step"], line["loss"]) for line in lines if "loss" in line]


@pytest.fixture
def unreachable(monkeypatch):
  """gs:// on a port where nobody listens, tried again without waiting in between."""
  monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://localhost:1")
  monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

  async def sleep(seconds):
    del seconds

  monkeypatch.setattr(gcsfs.retry, "asyncio", types.SimpleNamespace(sleep=sleep))
  gcsfs.GCSFileSystem.clear_instance_cache()
  yield object_store.BUCKET
  gcsfs.GCSFileSystem.clear_instance_cache()


def test_a_store_out_of_reach_is_told_in_one_line(unreachable, caplog):
  """Without the stacks that gcsfs logs."""
  with pytest.raises(RemoteError, match=r"^gs://bucket/run: cannot be listed: Cannot connect to host localhost:1 .*$"):
    RemoteFolder(f"{unreachable}/run").children()
  assert caplog.messages == []


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
  """A folder that programs reach through fsspec only, as they do s3://; they copy into tmp_path/cache."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  url = f"local://{tmp_path}/elsewhere"
  built(f"{url}/data", tmp_path)
  return url


@pytest.mark.slow
def test_training_continues_and_is_used_where_orbax_cannot_write(elsewhere, tmp_path):
  """Checkpoints are then part of the working copy."""
  variables = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
  for steps in (4, 6):
    changes = {"total_steps": steps, "checkpoint__every_steps": 2}
    out = run(*flags(f"{elsewhere}/data", f"{elsewhere}/run", **changes), **variables)
  assert f"{elsewhere}/run: checkpoint at step 4: going on from there" in out
  remote = RemoteFolder(f"{elsewhere}/run")
  assert [step for step, _ in losses(remote)] == [1, 2, 3, 4, 5, 6]
  assert {"config.json", "parameters.txt"} < remote.files().keys()
  assert working_copy.IN_USE not in remote.files()
  assert not copies.copy_path(f"{elsewhere}/run", "workdirs").exists()

  embedded = aim.load(f"{elsewhere}/run").embed(tiny.arrays()["values"])
  shutil.copytree(tmp_path / "elsewhere/run", tmp_path / "run")
  np.testing.assert_array_equal(embedded, aim.load(tmp_path / "run").embed(tiny.arrays()["values"]))

  checkpoints = remote.folder("checkpoints")
  checkpoints.remove([name for name in checkpoints.files() if name.startswith("6/params/")])
  assert aim.load(f"{elsewhere}/run").trained_steps == 4
  with pytest.raises(CheckpointError, match=r"checkpoints/6: is not complete: it has no readable item 'params'"):
    aim.load(f"{elsewhere}/run/checkpoints/6")
  with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
    aim.load(f"{elsewhere}/nothing")


def killed_after(step, *arguments, variables):
  """Starts the command line, and kills it once a checkpoint of this step is complete in the store."""
  remote = RemoteFolder(f"{object_store.BUCKET}/run")
  process = tiny.start(*arguments, variables=variables)
  while process.poll() is None and not remote.exists(f"checkpoints/{step}/commit_success.txt"):
    time.sleep(0.05)
  process.kill()
  assert tiny.wait(process).code == -signal.SIGKILL


@pytest.mark.slow
def test_everything_works_on_gs(store, tmp_path):
  """Training that is killed twice ends as one that is not; what follows it reads and writes the bucket alone."""
  variables, here = store
  bucket, changes = object_store.BUCKET, {"total_steps": STEPS, "checkpoint__every_steps": EVERY}
  train = flags(f"{bucket}/data", f"{bucket}/run", **changes)
  killed_after(EVERY, *train, variables=variables)
  killed_after(3 * EVERY, *train, variables=variables)
  out = run(*train, **variables)
  assert f"{bucket}/run: checkpoint at step " in out
  run(*flags(here.path.parents[2], tmp_path / "run", **changes))
  remote = RemoteFolder(f"{bucket}/run")
  assert losses(remote) == losses(RemoteFolder(f"local://{tmp_path}/run"))
  days = tiny.arrays()["values"]
  np.testing.assert_array_equal(aim.load(f"{bucket}/run").embed(days), aim.load(tmp_path / "run").embed(days))

  run(*train, "--mode=evaluate", **variables)
  run(*flags(here.path.parents[2], tmp_path / "run", **changes), "--mode=evaluate")
  assert remote.read("generative.csv") == (tmp_path / "run/generative.csv").read_bytes()
  run(*train, "--mode=heldout", **variables)
  embed = ("--mode=embed", f"--data_dir={bucket}/data", "--data=tiny", f"--output={bucket}/out/e.npz")
  assert f"{bucket}/out/e.npz: written" in run(*embed, f"--checkpoint={bucket}/run", **variables)
  RemoteFolder(f"{bucket}/in").send(here.path.parents[3] / "tiny.npz", "tiny.npz")
  impute = ("--mode=impute", f"--input={bucket}/in/tiny.npz", f"--output={bucket}/out/filled.npz")
  run(*impute, f"--checkpoint={bucket}/run", **variables)
  assert {"e.npz", "filled.npz"} == RemoteFolder(f"{bucket}/out").files().keys()
  assert f"{bucket}/run/report/index.html" in run("--mode=report", f"--workdir={bucket}/run", **variables)
  page = remote.read("report/index.html").decode()
  assert f"--workdir={bucket}/run --mode=probe" in page and str(cache_folder("remote")) not in page


@pytest.mark.slow
def test_an_interrupted_save_on_gs_is_removed_and_a_copied_checkpoint_refused(store, capsys):
  """No folder is renamed at the end of a save there, so neither can be told by its name."""
  url = f"{object_store.BUCKET}/saves"
  state = lambda step: {"params": {"a": jnp.arange(9.0) * step}, "ema": {}, "optimizer": {}, "step": jnp.int32(step)}
  saved = RemoteFolder(f"{url}/checkpoints")
  with working_copy.opened(url, trains=True, exclusive=True) as folder:
    with contextlib.closing(Checkpoints(folder, every=1, keep=3)) as checkpoints:
      for step in (1, 2, 3):
        checkpoints.save(step, state(step), {"config": {}, "schema": {}, "statistics": {}})
    saved.remove(["3/commit_success.txt"])  # what Orbax writes last
    with pytest.raises(CheckpointError, match=r"checkpoints/3: was copied there"):
      Checkpoints(folder, every=1, keep=3)
    metadata = json.loads(saved.read("3/_CHECKPOINT_METADATA"))
    saved.write("3/_CHECKPOINT_METADATA", json.dumps(metadata | {"commit_timestamp_nsecs": None}).encode())
    with contextlib.closing(Checkpoints(folder, every=1, keep=3)) as checkpoints:
      assert checkpoints.latest == 2 and not checkpoints.damaged
      checkpoints.set_aside(2, ValueError("damaged"))
      assert checkpoints.latest == 1
  assert saved.children() == ["1", "2.damaged"]
  out = capsys.readouterr().out
  assert f"{saved.url}/3: its save was interrupted; removed" in out
  assert f"{saved.url}/2: damaged; renamed to 2.damaged" in out


@pytest.mark.slow
def test_a_study_in_a_bucket_skips_what_is_finished(elsewhere, tmp_path, monkeypatch):
  """Another machine, which has no copy of anything yet, repeats the command."""
  for name, value in tiny.environment().items():
    monkeypatch.setenv(name, value)
  RemoteFolder(f"{elsewhere}/in").send(tmp_path / "tiny.npz", "study.npz")
  config = default.get_config()
  config.data.dir = f"{elsewhere}/data"
  config.compare.models = (tiny.CONFIG,)
  config.compare.inputs, config.compare.run_folds = (f"{elsewhere}/in/study.npz:2",), (0,)
  config.compare.common = tuple(tiny.overrides(evaluate__imputers=("linear",), evaluate__days_a_task=0))
  config.compare.modes, config.compare.bootstrap = ("evaluate",), 20
  study = commands.Arguments("compare", config, workdir=f"{elsewhere}/study")
  commands.run(study)
  remote = RemoteFolder(f"{elsewhere}/study")
  before = {name: remote.read(name) for name in remote.files()}
  assert {"comparison.csv", "comparison.md", "commands.csv", "config.json"} < before.keys()
  assert any(name.startswith("cells/") and "/checkpoints/6/" in name for name in before)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
  commands.run(study)
  logs = [name for name in before if name.endswith("log.txt")]
  assert logs and all(remote.read(name) == before[name] for name in (*logs, "comparison.csv"))
