"""Processes with gloo collectives train what one process trains, by the same command with the flags of aim/hosts.py."""

import json
import re
import shutil
import signal
import socket
import time

import numpy as np
import pytest

from aim import checkpoint, hosts
from tests import tiny

CHANGES = {"checkpoint__every_steps": 3}


def start(dataset, workdir, processes, mode="pretrain", **changes):
  """The processes of a run, started: on two devices in all, or one each."""
  flags = [f"--config={tiny.CONFIG}", *tiny.on(dataset), *tiny.overrides(**CHANGES | changes), f"--workdir={workdir}"]
  flags.append(f"--mode={mode}")
  if processes == 1:
    return [tiny.start(*flags, devices=2)]
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  together = [f"--coordinator=localhost:{port}", f"--num_processes={processes}"]
  return [
    tiny.start(*flags, *together, f"--process_id={process}", devices=max(1, 2 // processes))
    for process in range(processes)
  ]


def train(dataset, workdir, processes, **changes):
  """A run to its end; only its first process has said anything."""
  ended = [tiny.wait(process) for process in start(dataset, workdir, processes, **changes)]
  assert [each.code for each in ended] == [0] * processes, ended
  assert f"{workdir}: trained for 6 steps" in ended[0].out
  for each in ended[1:]:
    assert (each.out, re.findall("pretrain:|compiling", each.err)) == ("", [])


def losses(workdir):
  """[step, loss, gradient norm] of metrics.jsonl, which tells every step once."""
  records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return np.array([(record["step"], record["loss"], record["gradient_norm"]) for record in records])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def one(dataset, tmp_path_factory):
  """The workdir of a run of one process."""
  workdir = tmp_path_factory.mktemp("one")
  train(dataset, workdir, 1)
  assert losses(workdir)[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
  return workdir


def same_parameters(workdir, one, step=6):
  """Together the processes wrote one checkpoint, which one process reads."""
  ours, theirs = checkpoint.read(workdir), checkpoint.read(one)
  assert ours.step == theirs.step == step
  assert ours.params.keys() == theirs.params.keys()
  for name, array in ours.params.items():
    np.testing.assert_allclose(np.asarray(array), np.asarray(theirs.params[name]), rtol=1e-4, atol=1e-6, err_msg=name)


# Buffers of another form, whose size all must choose alike, included.
@pytest.mark.parametrize(
  ("processes", "form"),
  [(2, "textbook"), (2, "packed"), pytest.param(4, "textbook", marks=pytest.mark.slow)],
)
def test_several_processes_are_one(dataset, one, tmp_path, processes, form):
  train(dataset, tmp_path, processes, form=form)
  np.testing.assert_allclose(losses(tmp_path), losses(one), rtol=1e-5)
  same_parameters(tmp_path, one)
  told = json.loads((tmp_path / "config.json").read_text())
  assert told == json.loads((one / "config.json").read_text()) | {"form": form}


def test_a_run_goes_on_with_another_number_of_processes(dataset, one, tmp_path):
  workdir = shutil.copytree(one, tmp_path / "grown")
  shutil.rmtree(workdir / "checkpoints" / "6")
  (workdir / "metrics.jsonl").unlink()
  train(dataset, workdir, 2)
  np.testing.assert_allclose(losses(workdir), losses(one)[3:], rtol=1e-5)
  same_parameters(workdir, one)


@pytest.mark.slow
@pytest.mark.parametrize(("told", "number"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (1, signal.SIGINT)])
def test_a_signal_to_one_process_stops_all_after_the_same_step(dataset, tmp_path, told, number):
  changes = {"total_steps": 4000, "checkpoint__every_steps": 10_000}
  processes = start(dataset, tmp_path, 2, **changes)
  metrics = tmp_path / "metrics.jsonl"
  deadline = time.monotonic() + 120
  while not (metrics.exists() and metrics.read_text().count("\n") > 3):
    assert time.monotonic() < deadline and [process.poll() for process in processes] == [None, None]
    time.sleep(0.05)
  processes[told].send_signal(number)
  ended = [tiny.wait(process) for process in processes]
  assert [each.code for each in ended] == [128 + signal.SIGTERM] * 2, ended
  (saved,) = (int(path.name) for path in (tmp_path / "checkpoints").iterdir())
  assert f"{tmp_path}: SIGTERM: saved step {saved}; repeat the command to go on" in ended[0].out
  assert losses(tmp_path)[-1][0] == saved < 4000
  # The saved step is one that every process had done: two more steps go on from it.
  processes = start(dataset, tmp_path, 2, **changes | {"total_steps": saved + 2})
  assert [tiny.wait(process).code for process in processes] == [0, 0]
  assert losses(tmp_path)[:, 0].tolist() == list(range(1, saved + 3))


@pytest.mark.slow
def test_what_is_not_shared_out_is_refused_to_several_processes(dataset, one):
  processes = start(dataset, one, 2, mode="evaluate")
  line = "error: --mode=evaluate is for one process, and there are others; run it alone: --distributed=off"
  assert [(ended.code, ended.err.strip().splitlines()[-1]) for ended in map(tiny.wait, processes)] == [(2, line)] * 2


SLURM = {
  "SLURM_JOB_ID": "7",
  "SLURM_STEP_NODELIST": "node[001-002]",
  "SLURM_NTASKS": "16",
  "SLURM_PROCID": "3",
  "SLURM_LOCALID": "3",
}
JOBSET = {
  "JOBSET_NAME": "base",
  "REPLICATED_JOB_NAME": "hosts",
  "JAX_NUM_PROCESSES": "4",
  "JOB_COMPLETION_INDEX": "2",
}


@pytest.mark.parametrize(
  ("environment", "found"),
  [
    ({}, None),
    ({"TPU_WORKER_HOSTNAMES": "t-0,t-1"}, hosts.Found("TPU_WORKER_HOSTNAMES, MEGASCALE_NUM_SLICES")),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ({"MEGASCALE_NUM_SLICES": "2"}, hosts.Found("TPU_WORKER_HOSTNAMES, MEGASCALE_NUM_SLICES")),
    ({"MEGASCALE_NUM_SLICES": "1"}, None),
    (JOBSET, hosts.Found("JobSet", "base-hosts-0-0.base:8476", 4, 2)),
    (JOBSET | {"JAX_NUM_PROCESSES": "1"}, None),
    (SLURM, hosts.Found("Slurm")),
    (SLURM | {"SLURM_NTASKS": "1"}, None),
    ({name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"}, None),
  ],
)
def test_environments(environment, found):
  assert hosts.find("auto", None, None, None, environment) == found
  assert hosts.find("off", None, None, None, environment) is None
  # Flags go before whatever the environment tells.
  assert hosts.find("auto", "h:1", 2, 1, environment) == hosts.Found("--coordinator", "h:1", 2, 1)
  if found is None:
    with pytest.raises(hosts.HostsError, match="nothing here tells of other processes"):
      hosts.find("on", None, None, None, environment)
  else:
    assert hosts.find("on", None, None, None, environment) == found


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--coordinator=localhost:1"], "--num_processes is missing: --coordinator, --num_processes and --process_id go"),
    (["--process_id=0"], "--coordinator is missing"),
    (["--coordinator=localhost", "--num_processes=2", "--process_id=0"], "=localhost: expected HOST:PORT"),
    (["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"], "--process_id=2: expected 0 to 1"),
    (["--num_processes=2", "--distributed=off"], "--num_processes and --distributed=off exclude each other"),
    (["--distributed=on"], "--distributed=on: nothing here tells of other processes"),
    (["--num_processes=0"], "--num_processes=0"),
  ],
)
def test_flags(flags, message, tmp_path):
  ended = tiny.run(f"--config={tiny.CONFIG}", f"--workdir={tmp_path}/never", *flags)
  assert ended.code == 2
  assert message in ended.err
  assert "Traceback" not in ended.err
  assert not (tmp_path / "never").exists()


def test_a_bad_number_in_the_environment():
  with pytest.raises(hosts.HostsError, match="SLURM_NTASKS is 'many', expected a number"):
    hosts.find("auto", None, None, None, SLURM | {"SLURM_NTASKS": "many"})
