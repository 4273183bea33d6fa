"""Several processes train exactly what one trains; how they find each other, and what happens if one is lost."""

import csv
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from aim.runtime import processes, watchdog
from aim.training import checkpoint
from data_pipelines.build import build
from data_pipelines.dataset import Dataset
from data_pipelines.npz import NpzSource
from data_pipelines.splits import ListSplit
from tests import tiny

CHANGES = {"checkpoint__every_steps": 3}


def start(dataset, workdir, process_count, mode="pretrain", more=(), devices=None, **changes):
  """Starts the processes of a run: so many devices each, by default two devices in all, or one per process."""
  devices = devices or max(1, 2 // process_count)
  flags = [f"--mode={mode}", *more]
  if mode != "embed":
    flags += [f"--config={tiny.CONFIG}", *tiny.on(dataset), *tiny.overrides(**CHANGES | changes)]
    flags.append(f"--workdir={workdir}")
  if process_count == 1:
    return [tiny.start(*flags, devices=devices)]
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  group_flags = [f"--coordinator=localhost:{port}", f"--num_processes={process_count}"]
  return [
    tiny.start(*flags, *group_flags, f"--process_id={process}", devices=devices) for process in range(process_count)
  ]


def train(dataset, workdir, process_count, **changes):
  """Trains to the end and checks that only the first process printed anything."""
  ended = [tiny.wait(process) for process in start(dataset, workdir, process_count, **changes)]
  assert [each.code for each in ended] == [0] * process_count, ended
  assert f"{workdir}: trained for {changes.get('total_steps', 6)} steps" in ended[0].out
  for each in ended[1:]:
    assert (each.out, re.findall("pretrain:|compiling", each.err)) == ("", [])


def losses(workdir):
  """[step, loss, gradient norm] from metrics.jsonl, which must hold every step once."""
  return np.array([(record["step"], record["loss"], record["gradient_norm"]) for record in records(workdir)])


def records(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def wait_for_steps(workdir, steps, started):
  """Waits until more than so many steps are logged, however long that takes, while all processes are alive."""
  metrics, deadline = workdir / "metrics.jsonl", time.monotonic() + tiny.HANGS_AFTER_SECONDS
  while not (metrics.exists() and metrics.read_text().count("\n") > steps):
    assert [process.poll() for process in started] == [None] * len(started), [tiny.wait(each) for each in started]
    assert time.monotonic() < deadline, "it hangs"
    time.sleep(0.005)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def one(dataset, tmp_path_factory):
  """The workdir of a run with one process."""
  workdir = tmp_path_factory.mktemp("one")
  train(dataset, workdir, 1)
  assert losses(workdir)[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
  return workdir


def same_parameters(workdir, one, step=6):
  """Checks the one checkpoint that the processes wrote together, as read by a single process."""
  ours, theirs = checkpoint.read(workdir), checkpoint.read(one)
  assert ours.step == theirs.step == step
  assert ours.params.keys() == theirs.params.keys()
  for name in ours.params:
    arrays = [np.asarray(restored.params[name]) for restored in (ours, theirs)]
    if name.endswith("qkv/bias"):  # the keys' bias does not change attention, so its gradient is rounding noise
      arrays = [array[[0, 2]] for array in arrays]
    np.testing.assert_allclose(*arrays, rtol=1e-4, atol=1e-6, err_msg=name)


# Also with buffers of another form, whose size all processes must choose alike.
@pytest.mark.parametrize(
  ("process_count", "form"),
  [(2, "textbook"), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, "packed"), (4, "textbook")))],
)
def test_several_processes_train_like_one(dataset, one, tmp_path, process_count, form):
  train(dataset, tmp_path, process_count, form=form)
  np.testing.assert_allclose(losses(tmp_path), losses(one), rtol=1e-5)
  same_parameters(tmp_path, one)
  config = json.loads((tmp_path / "config.json").read_text())
  assert config == json.loads((one / "config.json").read_text()) | {"form": form}


@pytest.mark.slow
def test_a_run_continues_with_another_number_of_processes(dataset, one, tmp_path):
  workdir = shutil.copytree(one, tmp_path / "grown")
  shutil.rmtree(workdir / "checkpoints" / "6")
  (workdir / "metrics.jsonl").unlink()
  train(dataset, workdir, 2)
  np.testing.assert_allclose(losses(workdir), losses(one)[3:], rtol=1e-5)
  same_parameters(workdir, one)


@pytest.mark.slow
@pytest.mark.parametrize(("signalled", "number"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (1, signal.SIGINT)])
def test_a_signal_to_one_process_stops_all_after_the_same_step(dataset, tmp_path, signalled, number):
  changes = {"total_steps": 4000, "checkpoint__every_steps": 10_000}
  started = start(dataset, tmp_path, 2, **changes)
  wait_for_steps(tmp_path, 3, started)
  started[signalled].send_signal(number)
  ended = [tiny.wait(process) for process in started]
  assert [each.code for each in ended] == [128 + signal.SIGTERM] * 2, ended
  (saved,) = (int(path.name) for path in (tmp_path / "checkpoints").iterdir())
  assert f"{tmp_path}: SIGTERM: saved step {saved}; repeat the command to go on" in ended[0].out
  assert losses(tmp_path)[-1][0] == saved < 4000
  # Every process had done the saved step, so two more steps continue from it.
  started = start(dataset, tmp_path, 2, **changes | {"total_steps": saved + 2})
  assert [tiny.wait(process).code for process in started] == [0, 0]
  assert losses(tmp_path)[:, 0].tolist() == list(range(1, saved + 3))


# Long enough to be killed on the way.
LONG = {"total_steps": 200, "checkpoint__every_steps": 10}


@pytest.fixture(scope="module")
def unbroken(dataset, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken")
  train(dataset, workdir, 1, **LONG)
  return workdir


def half_way(dataset, workdir, **changes):
  """Two processes that have done 25 steps and saved a checkpoint."""
  started = start(dataset, workdir, 2, **LONG | changes)
  wait_for_steps(workdir, 25, started)
  return started


def check_continues(dataset, workdir, unbroken, process_count):
  """Checks that the run continues to the end of the unbroken one and logs every step once."""
  train(dataset, workdir, process_count, **LONG)
  assert losses(workdir)[:, 0].tolist() == list(range(1, 201))
  np.testing.assert_allclose(losses(workdir), losses(unbroken), rtol=1e-3)
  same_parameters(workdir, unbroken, 200)


def lost(ended):
  """Checks that the process ended because another one did, and said so in one line."""
  assert ended.code == processes.LOST_PROCESS_EXIT_CODE, ended
  (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
  assert line.startswith("error: the processes of this run cannot continue together, one of them may have ended (")
  assert line.endswith("); repeat the command for every process to continue from the newest checkpoint")
  assert "Traceback" not in ended.err


@pytest.mark.slow
def test_kill_9_of_one_process_ends_the_other(dataset, unbroken, tmp_path):
  started = half_way(dataset, tmp_path)
  started[1].kill()
  began = time.monotonic()
  lost(tiny.wait(started[0]))
  assert time.monotonic() - began < 60
  tiny.wait(started[1])
  check_continues(dataset, tmp_path, unbroken, 2)


@pytest.mark.slow
def test_the_watchdog_ends_a_run_of_which_one_process_hangs(dataset, unbroken, tmp_path):
  """But not while it compiles, which takes longer than a step may. The process that hung finds the others gone."""
  started = half_way(dataset, tmp_path / "two", log__watchdog_seconds=5.0)
  started[1].send_signal(signal.SIGSTOP)
  ended = tiny.wait(started[0])
  assert ended.code == watchdog.EXIT_CODE, ended
  assert re.search(r"error: (step \d+|the last save) was not done within 5 s; what each thread is doing:", ended.err)
  assert "in train_from" in ended.err, "the loop is not among the stacks"
  started[1].send_signal(signal.SIGCONT)
  lost(tiny.wait(started[1]))
  shutil.copytree(tmp_path / "two", tmp_path / "four")
  check_continues(dataset, tmp_path / "two", unbroken, 1)
  check_continues(dataset, tmp_path / "four", unbroken, 4)


def damaged(dataset, folder):
  """A copy in which one record of the training days is unreadable."""
  folder = shutil.copytree(dataset.path.parents[2], folder / "data")
  (shard,) = folder.rglob(f"{dataset.name}/*/*pretrain.array_record*")
  content = bytearray(shard.read_bytes())
  records = np.flatnonzero(np.frombuffer(content, np.uint8))
  content[records[len(records) // 2]] ^= 255
  shard.write_bytes(bytes(content))
  return Dataset.open(folder, dataset.name)


@pytest.mark.slow
def test_days_and_steps_that_are_skipped_are_counted_once(dataset, tmp_path):
  """A bad day that only one process reads, and a step that is not finite on both."""
  changes = {"data__on_corrupt": "skip", "optimizer__on_nan": "skip"}
  changes |= {"optimizer__learning_rate": 1000, "optimizer__weight_decay": 1000}
  broken, skips = damaged(dataset, tmp_path), []
  for process_count in (1, 2):
    workdir = tmp_path / str(process_count)
    train(broken, workdir, process_count, **changes)
    skips.append([(record["step"], record.get("skipped"), record.get("corrupt_days")) for record in records(workdir)])
  assert skips[0] == skips[1]
  assert any(skipped for _, skipped, _ in skips[0]) and skips[0][-1][2] > 0
  ended = [tiny.wait(each) for each in start(broken, tmp_path / "stop", 2, **changes | {"optimizer__on_nan": "stop"})]
  assert [each.code for each in ended] == [2, 2]
  assert all("is NaN or Inf" in each.err and "Traceback" not in each.err for each in ended)
  ended = [tiny.wait(each) for each in start(broken, tmp_path / "corrupt", 2)]
  assert sorted(each.code for each in ended) in ([2, 2], [2, processes.LOST_PROCESS_EXIT_CODE])
  assert any(re.search(r"error: .*array_record-00000-of-00001: record \d of 10 cannot be read", e.err) for e in ended)


def with_extremes(dataset, folder):
  """The same days, but every fifth value of the people never seen is beyond its channel's clip, but for `asleep`."""
  arrays = tiny.arrays()
  seen = np.isin(arrays["participant"], dataset.people("pretrain"))
  arrays["values"][np.flatnonzero(~seen)[:, None], ::5, :2] *= 10
  np.savez(folder / "extremes.npz", **arrays)
  split = ListSplit(*(tuple(dataset.people(split)) for split in ("pretrain", "tune", "eval")))
  return build(NpzSource(folder / "extremes.npz"), folder / "data", "extremes", split=split)


def numbers(path):
  """The fields of a CSV file, with numbers parsed."""
  with path.open() as file:
    rows = list(csv.reader(file))
  return [[float(cell) if re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell) else cell for cell in row] for row in rows]


@pytest.mark.slow
def test_processes_share_evaluation_and_embedding(dataset, one, tmp_path):
  """Each process has some batches (of four days, and of 64), and the first writes what a single process would.

  A process has two devices, which share its batches.
  """
  source = tiny.write_npz(tmp_path / "many.npz", people=70)
  days, embedded = with_extremes(dataset, tmp_path), []
  for process_count in (1, 2):
    workdir, output = tmp_path / str(process_count), tmp_path / f"{process_count}.npz"
    changes = {"evaluate__batch_size": 1}
    for mode, more in (("evaluate", ()), ("heldout", ()), ("embed", (f"--data={source}", f"--output={output}"))):
      together = start(days, workdir, process_count, mode, (f"--checkpoint={one}", *more), devices=2, **changes)
      ended = [tiny.wait(process) for process in together]
      assert [each.code for each in ended] == [0] * process_count, ended
      assert [each.out for each in ended[1:]] == [""] * (process_count - 1)
    embedded.append(dict(np.load(output)))
  for name, array in embedded[0].items():
    np.testing.assert_array_equal(embedded[1][name], array)
  assert len(embedded[0]["embedding"]) == 140
  tables = [f"evaluate/{name}.csv" for name in ("people", "channels", "against_linear", "clipped")]
  for name in ("generative.csv", *tables):
    ours, theirs = numbers(tmp_path / "2" / name), numbers(tmp_path / "1" / name)
    assert len(theirs) > 5 and [len(row) for row in ours] == [len(row) for row in theirs]
    for row, other in zip(ours, theirs, strict=True):
      assert row == [pytest.approx(cell, rel=1e-6, abs=1e-9) if isinstance(cell, float) else cell for cell in other]
  ours, theirs = (json.loads((tmp_path / n / "heldout.json").read_text()) for n in ("2", "1"))
  assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6) and ours["mse"] == pytest.approx(
    theirs["mse"], rel=1e-6
  )


@pytest.mark.slow
def test_modes_for_one_process_refuse_several(dataset, one):
  started = start(dataset, one, 2, mode="probe")
  line = "error: --mode=probe is for one process, and there are others; run it alone: --distributed=off"
  assert [(ended.code, ended.err.strip().splitlines()[-1]) for ended in map(tiny.wait, started)] == [(2, line)] * 2


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
  ("environment", "group"),
  [
    ({}, None),
    ({"TPU_WORKER_HOSTNAMES": "t-0,t-1"}, processes.ProcessGroup("TPU_WORKER_HOSTNAMES, MEGASCALE_NUM_SLICES")),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ({"MEGASCALE_NUM_SLICES": "2"}, processes.ProcessGroup("TPU_WORKER_HOSTNAMES, MEGASCALE_NUM_SLICES")),
    ({"MEGASCALE_NUM_SLICES": "1"}, None),
    (JOBSET, processes.ProcessGroup("JobSet", "base-hosts-0-0.base:8476", 4, 2)),
    (JOBSET | {"JAX_NUM_PROCESSES": "1"}, None),
    (SLURM, processes.ProcessGroup("Slurm")),
    (SLURM | {"SLURM_NTASKS": "1"}, None),
    ({name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"}, None),
  ],
)
def test_environments(environment, group):
  assert processes.find_process_group("auto", None, None, None, environment) == group
  assert processes.find_process_group("off", None, None, None, environment) is None
  # Flags take precedence over the environment.
  assert processes.find_process_group("auto", "h:1", 2, 1, environment) == processes.ProcessGroup(
    "--coordinator", "h:1", 2, 1
  )
  if group is None:
    with pytest.raises(processes.ProcessGroupError, match="no other processes found"):
      processes.find_process_group("on", None, None, None, environment)
  else:
    assert processes.find_process_group("on", None, None, None, environment) == group


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--coordinator=localhost:1"], "--num_processes is missing: --coordinator, --num_processes and --process_id go"),
    (["--process_id=0"], "--coordinator is missing"),
    (["--coordinator=localhost", "--num_processes=2", "--process_id=0"], "=localhost: expected HOST:PORT"),
    (["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"], "--process_id=2: expected 0 to 1"),
    (["--num_processes=2", "--distributed=off"], "--num_processes and --distributed=off exclude each other"),
    (["--distributed=on"], "--distributed=on: no other processes found"),
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
  with pytest.raises(processes.ProcessGroupError, match="SLURM_NTASKS is 'many', expected a number"):
    processes.find_process_group("auto", None, None, None, SLURM | {"SLURM_NTASKS": "many"})


@pytest.mark.slow
@pytest.mark.parametrize("process_count", [1, 2])
def test_processes_end_when_nobody_reads_what_they_print(dataset, tmp_path, process_count):
  """As after a kill of the program that started them and read their output."""
  started = start(dataset, tmp_path, process_count, total_steps=100_000, checkpoint__every_steps=100_000)
  wait_for_steps(tmp_path, 3, started)
  for process in started:
    process.stdout.close()
    process.stderr.close()
  codes = [process.wait(timeout=processes.SHUTDOWN_SECONDS + 40) for process in started]
  assert codes[0] == 2 and codes[1:] in ([], [processes.LOST_PROCESS_EXIT_CODE])


FAILING = """
import os, sys, time
from aim.runtime import processes
from data_pipelines import streams
processes.SHUTDOWN_SECONDS = 0.2
processes.initialize("on", "localhost:PORT", 2, INDEX)
print("joined", file=sys.stderr, flush=True)
time.sleep(120) if INDEX else sys.stdin.readline()
streams.report("lost")
processes.exit_process(2)
"""


def test_a_failing_process_ends_although_nobody_reads_its_errors():
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  programs = [FAILING.replace("PORT", str(port)).replace("INDEX", str(index)) for index in (0, 1)]
  pipe = subprocess.PIPE
  started = [
    subprocess.Popen([sys.executable, "-c", program], env=tiny.environment(), stdin=pipe, stderr=pipe)
    for program in programs
  ]
  for process in started:
    while b"joined" not in process.stderr.readline():
      assert process.poll() is None
    process.stderr.close()
  started[0].stdin.close()
  codes = [process.wait(timeout=60) for process in started]
  assert codes == [2, processes.LOST_PROCESS_EXIT_CODE]
