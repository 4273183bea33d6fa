"""TensorBoard and Weights & Biases, as installed: what they keep of a run is read back, and a restart goes on in it."""

import json
import math
import pathlib
import struct
import subprocess
import sys

import pytest

from aim.common.config_files import ConfigError
from aim.training.metrics_writer import MetricsWriter, check_sinks
from experiments import default
from tests import tiny

WITHOUT_WANDB = "needs wandb, which `make test-all` installs"


def sinks(**settings):
  config = default.get_config().log
  config.update(settings)
  return config


def write(workdir, config, lines, start=0):
  writer = MetricsWriter(workdir, config, start)
  for step, metrics in lines:
    writer.write(step, metrics)
  writer.close()


LINES = [
  (1, {"loss": 0.5, "lr": 1e-3, "note": "text", "seconds": 2}),
  (2, {"loss": float("nan"), "lr": 2e-3}),
  (3, {"loss": 0.25, "lr": 3e-3}),
]
AGAIN = [(3, {"loss": 0.125}), (4, {"loss": 0.0625})]  # step 3 was lost with its process


def test_tensorboard_reads_the_values_of_every_step_once(tmp_path):
  accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
  write(tmp_path, sinks(tensorboard=True), LINES)
  write(tmp_path, sinks(tensorboard=True), AGAIN, start=2)
  events = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
  values = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
  assert values["loss"].keys() == {1, 2, 3, 4} and len(events.Scalars("loss")) == 4
  assert math.isnan(values["loss"].pop(2)) and values["loss"] == {1: 0.5, 3: 0.125, 4: 0.0625}
  assert values["seconds"] == {1: 2} and values["lr"] == pytest.approx({1: 1e-3, 2: 2e-3})


def records(path: pathlib.Path):
  """The records of a file of W&B: 7 bytes of its own, then LevelDB's log of records in parts and blocks."""
  data, at, parts = path.read_bytes(), 7, b""
  while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
      at += 32768 - at % 32768  # the rest of a block is too short for a part
      continue
    length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
    parts, at = parts + data[at + 7 : at + 7 + length], at + 7 + length
    if kind in (1, 4):  # the whole of a record, or its last part
      yield parts
      parts = b""


def histories(workdir):
  """Ids of the runs, and all lines that were logged, in order of their files."""
  pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
  ids, lines = set(), []
  for path in sorted(workdir.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns):
    for record in map(pb.Record.FromString, records(path)):
      if record.HasField("run"):
        ids.add(record.run.run_id)
      if record.HasField("history"):
        items = {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
        lines.append({name: value for name, value in items.items() if not name.startswith("_")})
  return ids, lines


@pytest.mark.slow
def test_wandb_keeps_one_run_of_a_workdir_with_all_that_was_logged(tmp_path, monkeypatch):
  pytest.importorskip("wandb", reason=WITHOUT_WANDB)
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB_SILENT", "true")
  write(tmp_path, sinks(wandb="aim"), LINES)
  write(tmp_path, sinks(wandb="aim"), AGAIN, start=2)
  ids, lines = histories(tmp_path)
  assert ids == {(tmp_path / "wandb_run.txt").read_text().strip()}
  assert [line["step"] for line in lines] == [1, 2, 3, 3, 4]
  assert [lines[i]["loss"] for i in (0, 2, 3, 4)] == [0.5, 0.25, 0.125, 0.0625]
  assert lines[0]["seconds"] == 2 and "note" not in lines[0]


@pytest.mark.slow
def test_wandb_without_an_account_is_one_line(tmp_path, monkeypatch):
  pytest.importorskip("wandb", reason=WITHOUT_WANDB)
  code = "from tests.training import test_metrics_writer as t; t.write(t.pathlib.Path(), t.sinks(wandb='aim'), [])"
  nowhere = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_BASE_URL": "http://localhost:9"}
  variables = nowhere | {"WANDB_MODE": "online", "WANDB_API_KEY": "", "WANDB_INIT_TIMEOUT": "5"}
  ended = subprocess.run(
    [sys.executable, "-c", code], cwd=tmp_path, env=tiny.environment() | variables, capture_output=True, text=True
  )
  assert ended.returncode != 0
  assert "ConfigError: config.log.wandb=aim: " in ended.stderr.splitlines()[-1], ended.stderr
  assert ended.stderr.splitlines()[-1].endswith("; WANDB_MODE=offline needs no connection")


def test_a_sink_that_is_not_installed_names_its_extra(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(ConfigError, match=r"config.log.wandb needs the package wandb: pip install 'lsm2-aim\[wandb\]'"):
    check_sinks(sinks(wandb="aim"))
  check_sinks(sinks())
