"""Every shipped config, shrunk, through the real command line: pretrain, evaluate, embed, impute, and `aim.load`."""

import csv
import itertools
import json
import math
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from aim.common import config_files
from aim.evaluation import results
from aim.evaluation.generative import scenarios
from data_pipelines.dataset import Dataset
from tests import tiny

CONFIGS = ("tiny", "xxs", "xs", "s", "base", "b", "l")
BASELINES = ("lsm1_xs", "lsm1_s", "lsm1_base", "simclr_xs", "dino_xs", "msn_xs")
# Sizes alone: masking, optimiser and all else are those of the shipped config.
SHRUNK = tiny.MODEL | {
  "model.patch_minutes": 240,
  "total_steps": 3,
  "batch_size": 4,
  "optimizer.accumulate": 2,
  "log.every_steps": 1,
  "evaluate.bootstrap": 20,
}
METHODS = ["LSM-2", "mean", "nearest", "linear", "locf", "time_of_day_mean", "person_time_of_day_mean"]
METRICS = {
  "step",
  "loss",
  "learning_rate",
  "gradient_norm",
  "windows_per_second",
  "data_wait_share",
  "mfu_useful",
  "mfu_executed",
  "eta_seconds",
}


def flags(config, workdir, changes):
  changed = [f"--config.{key}={value}" for key, value in changes.items()]
  return [f"--config=experiments/{config}.py", f"--workdir={workdir}", *changed]


def fine(ended):
  assert ended.code == 0, ended
  assert "Traceback" not in ended.err
  return ended.out


def check_pretrained(config, workdir, changes):
  """The files of a run of SHRUNK["total_steps"] steps."""
  resolved = runpy.run_path(str(tiny.ROOT / f"experiments/{config}.py"))["get_config"]()
  resolved.update_from_flattened_dict(changes)
  assert json.loads((workdir / "config.json").read_text()) == config_files.to_dict(resolved)
  records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  assert [record["step"] for record in records] == [1, 2, 3]
  for record in records:
    assert set(record) >= METRICS
    assert math.isfinite(record["loss"])
    assert record["windows_per_second"] > 0
    assert 0 <= record["data_wait_share"] <= 1
  assert records[-1]["eta_seconds"] == 0
  assert (workdir / "checkpoints" / "3" / "params").is_dir()


def check_evaluated(workdir, dataset, out, tasks):
  """`tasks`: how many but for the public scenarios, some of which may find no such cells in these days."""
  with (workdir / "evaluate" / "channels.csv").open() as file:
    header, *lines = csv.reader(file)
  more = ["rmse", "mre", "unit_mse", "unit_mae", "unit_rmse", "unit_mre"]
  assert header == ["task", "level", "method", "channel", "n", "mse", "mae", "ci_low", "ci_high", *more]
  lines = [line for line in lines if line[0] not in scenarios.UNITS]
  rows = {(task, level, method, channel): numbers for task, level, method, channel, *numbers in lines}
  assert len(rows) == len(lines)
  of_task = {(task, level) for task, level, *_ in rows}
  assert {task for task, _ in of_task} == {"random", "interpolation", "extrapolation", "sensor"}
  # The last minutes of a few simulated days may be lost to all of them; then the task is left out and reported.
  lost = [line for line in out.splitlines() if "hides no observed value" in line]
  lost = [line for line in lost if line.split()[2] in ("interpolation", "extrapolation")]
  assert len(of_task) + len(lost) == tasks
  several = len(dataset.people("eval")) > 1
  for (task, level), channel in itertools.product(of_task, ["all", *dataset.schema.names]):
    scores = [rows.pop((task, level, method, channel)) for method in METHODS]
    assert len({n for n, *_ in scores}) == 1, "not the same cells"
    for n, mse, mae, low, high, *_ in scores:
      if int(n):
        # One person alone has no interval, nor what the sensors of one person alone saw.
        alone = not several or (not low and (channel != "all" or task in ("interpolation", "extrapolation")))
        assert (low, high) == ("", "") if alone else 0 <= float(low) <= float(high)
        assert float(mse) >= 0
        assert float(mae) >= 0
      else:
        # A stretch of the day that nobody's sensors saw; the other tasks always find cells in some channel.
        assert channel != "all" or task in ("interpolation", "extrapolation")
        assert (mse, mae) == ("", "")
  assert rows == {}
  rows = results.read_csv(workdir / "generative.csv")
  assert {result.task for result in rows} & set(scenarios.UNITS)
  assert {result.model for result in rows} == set(METHODS)
  assert {"mse", "mae", "rmse", "mre", "skill vs LOCF %", "mse vs linear %"} <= {result.metric for result in rows}
  for picture in ("generative.png", "scenarios.png", "gap_length.png", "channels.png", "day.png"):
    assert (workdir / "evaluate" / picture).read_bytes().startswith(b"\x89PNG")


def check_embedded(parquet, npz, days, width):
  """`days`: (participant, date) in the order of the source. Returns the embeddings."""
  table = pq.read_table(parquet)
  assert table.column_names == ["participant", "date", *(f"e{i:03d}" for i in range(width))]
  assert list(zip(*(table[name].to_pylist() for name in ("participant", "date")), strict=True)) == days
  columns = np.stack([table[f"e{i:03d}"].to_numpy() for i in range(width)], axis=1)
  assert np.isfinite(columns).all()
  assert len(np.unique(columns, axis=0)) == len(days)
  with np.load(npz) as arrays:
    assert arrays["embedding"].dtype == np.float32
    assert np.array_equal(arrays["embedding"], columns)
    assert list(zip(arrays["participant"].tolist(), arrays["date"].tolist(), strict=True)) == days
    return arrays["embedding"]


def check_imputed(source, output):
  with np.load(source) as given, np.load(output) as made:
    assert set(made) == {*given, "filled"}
    holes = np.isnan(given["values"])
    assert holes.any()
    assert made["filled"].dtype == bool
    assert np.array_equal(made["filled"], holes)
    assert made["values"].dtype == np.float32
    assert made["values"][~holes].tobytes() == given["values"][~holes].tobytes()
    assert np.isfinite(made["values"]).all()
    assert np.isin(made["values"][..., given["channels"] == "asleep"], (0, 1)).all()
    for key in set(given) - {"values"}:
      assert made[key].dtype == given[key].dtype
      assert np.array_equal(made[key], given[key])
    return made["values"]


def days_of(dataset):
  """(participant, date) of all days, in the order of the splits."""
  sources = [dataset.days(split) for split in ("pretrain", "tune", "eval") if dataset.num_days(split)]
  return [(day["participant"].decode(), day["date"].decode()) for source in sources for day in source]


@pytest.fixture(scope="module")
def five_minutes(tmp_path_factory):
  """Three channels every five minutes."""
  return tiny.dataset(tmp_path_factory.mktemp("five"), "five", minutes_per_step=5)


@pytest.mark.slow
def test_tiny_on_the_simulated_cohort(tmp_path):
  """The steps of `make demo`, and those that follow it, work in processes of their own."""
  workdir, data = tmp_path / "demo", tmp_path / "data"
  cohort = {"data.dir": str(data), "data.participants": 8, "data.days": 2}
  changes = SHRUNK | cohort | {"evaluate.random_percent": (80,), "evaluate.sensor_channels": (6,)}
  out = fine(tiny.wait(tiny.start(*flags("lsm2_tiny", workdir, changes))))
  assert "built 'simulated_8x2_seed0'" in out
  assert f"{workdir}: trained for 3 steps; loss " in out
  check_pretrained("lsm2_tiny", workdir, changes)

  out = fine(tiny.wait(tiny.start(*flags("lsm2_tiny", workdir, changes), "--mode=evaluate")))
  assert "| mse " in out
  assert str(workdir / "evaluate" / "day.png") in out
  dataset = Dataset.open(data, "simulated_8x2_seed0")
  check_evaluated(workdir, dataset, out, tasks=1 + 6 + 4 + 1)

  common = ["--mode=embed", f"--checkpoint={workdir}", f"--data={dataset.name}", f"--data_dir={data}"]
  for output in ("days.parquet", "days.npz"):
    fine(tiny.run(*common, f"--output={tmp_path / 'made' / output}"))
  check_embedded(tmp_path / "made/days.parquet", tmp_path / "made/days.npz", days_of(dataset), 16)
  fine(tiny.run(*common, "--split=eval", f"--output={tmp_path}/eval.npz"))
  assert len(np.load(tmp_path / "eval.npz")["embedding"]) == dataset.num_days("eval")


QUICK = ("lsm1_xs",)  # test_tiny_on_the_simulated_cohort is one of LSM-2


@pytest.mark.parametrize(
  "config",
  [
    pytest.param(config, marks=[] if config in QUICK else pytest.mark.slow)
    for config in (*(f"lsm2_{name}" for name in CONFIGS), *BASELINES)
  ],
)
def test_shipped_config(config, five_minutes, tmp_path):
  changes = SHRUNK | {"data.dir": str(five_minutes.path.parents[2]), "data.name": "five"}
  fine(tiny.run(*flags(config, tmp_path, changes)))
  check_pretrained(config, tmp_path, changes)


@pytest.mark.slow
def test_real_days_with_other_channels(tmp_path):
  """An npz of channels the project has never heard of, to embeddings and filled holes with no code change."""
  dataset = tiny.dataset(tmp_path, "five", minutes_per_step=5)
  source, workdir = tmp_path / "five.npz", tmp_path / "run"
  changes = SHRUNK | {"data.dir": str(tmp_path / "data"), "data.name": "five"}
  fine(tiny.run(*flags("real_days", workdir, changes)))
  check_pretrained("real_days", workdir, changes)
  out = fine(tiny.run(*flags("real_days", workdir, changes), "--mode=evaluate"))
  # Of sensor imputation, three channels leave the level of two, and the share of six and twelve, which is one.
  check_evaluated(workdir, dataset, out, tasks=3 + 6 + 4 + 2)

  days = days_of(dataset)
  shutil.rmtree(tmp_path / "data")  # from here on the checkpoint is all there is
  common = ["--mode=embed", f"--workdir={workdir}", f"--data={source}"]
  for output in ("days.parquet", "days.npz"):
    fine(tiny.run(*common, f"--output={tmp_path / output}"))
  with np.load(source) as arrays:
    assert sorted(days) == sorted(zip(arrays["participant"].tolist(), arrays["date"].tolist(), strict=True))
    in_file = list(zip(arrays["participant"].tolist(), arrays["date"].tolist(), strict=True))
  embedding = check_embedded(tmp_path / "days.parquet", tmp_path / "days.npz", in_file, 16)
  fine(tiny.run("--mode=impute", f"--checkpoint={workdir}", f"--input={source}", f"--output={tmp_path}/full.npz"))
  imputed = check_imputed(source, tmp_path / "full.npz")

  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  shutil.copytree(workdir / "checkpoints", elsewhere / "model" / "checkpoints")
  shutil.rmtree(workdir)
  program = """
import numpy as np
import aim
model = aim.load("model")
values = np.load("../five.npz")["values"]
np.savez("made.npz", embedding=model.embed(values), imputed=model.impute(values), names=model.schema.names)
"""
  subprocess.run([sys.executable, "-c", program], cwd=elsewhere, env=tiny.environment(), check=True, timeout=240)
  with np.load(elsewhere / "made.npz") as made:
    assert tuple(made["names"]) == dataset.schema.names
    assert made["embedding"].tobytes() == embedding.tobytes()
    assert made["imputed"].tobytes() == imputed.tobytes()
