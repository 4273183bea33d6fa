"""The processes of one run: how they find each other, which one prints and writes, and how they stop together.

A run may span several processes, one per host or per GPU. They are found from the command-line flags, Cloud TPU, GKE
or Slurm. Process 0 prints and writes files.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib.util
import os
import pickle
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from data_pipelines import streams
from data_pipelines.errors import UserError, first_line

COORDINATOR_PORT = 8476  # on the first pod of a JobSet, where no scheduler names a port
LOST_PROCESS_EXIT_CODE = 76  # of a process whose run lost another one; EX_PROTOCOL in sysexits.h
SHUTDOWN_SECONDS = 10.0  # how long a failing process waits, so that others that fail alike can print their own error
# How long processes that are done wait for process 0, which alone computes intervals and draws figures.
LAST_PROCESS_SECONDS = 24 * 3600
# srun sets all of these in every task. sbatch's own shell, which is not part of a run, has only some of them.
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
# The first three are set by launch/jobset_gpu.yaml, the last by Kubernetes.
JOBSET = ("JOBSET_NAME", "REPLICATED_JOB_NAME", "JAX_NUM_PROCESSES", "JOB_COMPLETION_INDEX")


class ProcessGroupError(UserError):
  """The processes of a run cannot be determined, or they do not find each other."""


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
  """The processes of a run, as arguments for jax.distributed.initialize, and the source that named them.

  Attributes:
    source: the flag or the scheduler that named the processes.
    coordinator: HOST:PORT of process 0.
    process_count: number of processes.
    process_index: number of this process.

  None in the last three means that JAX itself asks the scheduler.
  """

  source: str
  coordinator: str | None = None
  process_count: int | None = None
  process_index: int | None = None


def initialize(mode: str, coordinator: str | None, process_count: int | None, process_index: int | None) -> None:
  """Joins the other processes, if there are any. Call it before anything touches a device.

  From then on every process except the first loses its standard output; only its errors are seen.

  Raises:
    ProcessGroupError: if the flags are incomplete, mode "on" finds no other process, or the others do not come.
  """
  group = find_process_group(mode, coordinator, process_count, process_index, os.environ)
  if group is None:
    return
  try:
    jax.distributed.initialize(
      group.coordinator, group.process_count, group.process_index, shutdown_timeout_seconds=LAST_PROCESS_SECONDS
    )
  except (RuntimeError, ValueError, OSError) as error:
    raise ProcessGroupError(f"the processes of this run ({group.source}) did not come together: {error}") from None
  ctypes.CDLL(None).signal(int(signal.SIGABRT), _on_abort)
  if not is_first_process():
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # also silences what is written below Python


# When process 0 is gone or heartbeats were missed, JAX aborts in C++, from a thread of its own. This handler ends the
# process with a message instead.
_on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(
  lambda number: exit_after_lost_process("JAX aborted, for the reason above")
)


def find_process_group(
  mode: str,
  coordinator: str | None,
  process_count: int | None,
  process_index: int | None,
  environment: Mapping[str, str],
) -> ProcessGroup | None:
  """The processes named by --coordinator, --num_processes and --process_id, or else by the environment.

  Args:
    mode: --distributed: "auto", "on" or "off".
    coordinator: --coordinator.
    process_count: --num_processes.
    process_index: --process_id.
    environment: os.environ.

  Returns None if this process is alone.
  """
  flags = {"coordinator": coordinator, "num_processes": process_count, "process_id": process_index}
  given = [name for name, value in flags.items() if value is not None]
  if given and mode == "off":
    raise ProcessGroupError(f"--{given[0]} and --distributed=off exclude each other")
  if given:
    return _from_flags(flags)
  if mode == "off":
    return None
  group = _from_environment(environment)
  if group is None and mode == "on":
    raise ProcessGroupError(
      "--distributed=on: no other processes found (looked for a Cloud TPU, TPU_WORKER_HOSTNAMES, "
      f"{', '.join(JOBSET)}, SLURM_*); name them with --coordinator=HOST:PORT --num_processes=N --process_id=I"
    )
  return group


def _from_flags(flags: Mapping[str, Any]) -> ProcessGroup:
  missing = [name for name, value in flags.items() if value is None]
  if missing:
    raise ProcessGroupError(f"--{missing[0]} is missing: --coordinator, --num_processes and --process_id go together")
  address, process_count, process_index = flags.values()
  host, _, port = address.rpartition(":")
  if not host or not re.fullmatch("[0-9]{1,5}", port):
    raise ProcessGroupError(f"--coordinator={address}: expected HOST:PORT")
  if not 0 <= process_index < process_count:
    raise ProcessGroupError(
      f"--process_id={process_index}: expected 0 to {process_count - 1}, one less than --num_processes"
    )
  return ProcessGroup("--coordinator", address, process_count, process_index)


def _from_environment(environment: Mapping[str, str]) -> ProcessGroup | None:
  workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
  if "," in workers or _number(environment, "MEGASCALE_NUM_SLICES") > 1:
    return ProcessGroup("TPU_WORKER_HOSTNAMES, MEGASCALE_NUM_SLICES")
  if all(name in environment for name in JOBSET) and _number(environment, "JAX_NUM_PROCESSES") > 1:
    jobset, job = environment["JOBSET_NAME"], environment["REPLICATED_JOB_NAME"]
    # Pods of a JobSet have the host name JOBSET-JOB-REPLICA-INDEX in the subdomain JOBSET.
    first_pod = f"{jobset}-{job}-0-0.{jobset}:{COORDINATOR_PORT}"
    process_count = _number(environment, "JAX_NUM_PROCESSES")
    return ProcessGroup("JobSet", first_pod, process_count, _number(environment, "JOB_COMPLETION_INDEX"))
  if all(name in environment for name in SLURM) and _number(environment, "SLURM_NTASKS") > 1:
    return ProcessGroup("Slurm")
  return ProcessGroup("Cloud TPU VM") if _on_tpu_vm(environment) else None


def _number(environment: Mapping[str, str], name: str) -> int:
  try:
    return int(environment.get(name) or 0)
  except ValueError:
    raise ProcessGroupError(f"the environment's {name} is {environment[name]!r}, expected a number") from None


def _on_tpu_vm(environment: Mapping[str, str]) -> bool:
  """True if this is a VM of Cloud TPU, alone or not: JAX asks its metadata server for the other workers."""
  if "TPU_SKIP_MDS_QUERY" in environment or "TPU_WORKER_HOSTNAMES" in environment:  # no chips, or GKE
    return False
  # JAX puts tpu first if it finds chips and the user has not chosen otherwise.
  platforms = jax.config.jax_platforms or ""  # type: ignore[attr-defined]
  return platforms.startswith("tpu") and importlib.util.find_spec("libtpu") is not None


def is_first_process() -> bool:
  """True if this process is the one that prints and writes. Touches no device if the process is alone."""
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def is_multi_process() -> bool:
  """True if the run has other processes."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def process_index_and_count() -> tuple[int, int]:
  """The number of this process and how many there are; (0, 1) for a process that is alone."""
  return (jax.process_index(), jax.process_count()) if is_multi_process() else (0, 1)


def gather(result: Any) -> list[Any]:
  """Each process's result in process order, on all processes. Results are pickled; up to 2 GB per process."""
  if not is_multi_process():
    return [result]
  mine = np.frombuffer(pickle.dumps(result), np.uint8)
  lengths = multihost_utils.process_allgather(np.int32(len(mine)))
  padded = multihost_utils.process_allgather(np.pad(mine, (0, int(lengths.max()) - len(mine))))
  return [pickle.loads(row[:length].tobytes()) for row, length in zip(np.asarray(padded), lengths, strict=True)]


_exit_lock = threading.Lock()  # taken once, by the thread that ends the process


def exit_after_lost_process(reason: object) -> NoReturn:
  """Ends this process at once because another one is gone: a save or an orderly shutdown would wait for it for ever."""
  _exit_lock.acquire()
  streams.report(
    f"error: the processes of this run cannot continue together, one of them may have ended "
    f"({first_line(reason, 300)}); repeat the command for every process to continue from the newest checkpoint"
  )
  os._exit(LOST_PROCESS_EXIT_CODE)


@contextlib.contextmanager
def exit_on_lost_process() -> Iterator[None]:
  """Around computations shared by several processes: if one fails, ends this process by exit_after_lost_process()."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if is_multi_process():
      exit_after_lost_process(error)
    raise


def exit_process(code: int) -> NoReturn:
  """Ends a process that failed. JAX's shutdown gets SHUTDOWN_SECONDS only, because the others may never answer it."""
  if is_multi_process():
    shutdown = threading.Thread(target=_shutdown, daemon=True)
    shutdown.start()
    shutdown.join(SHUTDOWN_SECONDS)
    streams.flush_all()  # an error here would leave the process waiting for the others
    _exit_lock.acquire()
    os._exit(code)
  sys.exit(code)


def _shutdown() -> None:
  with contextlib.suppress(Exception):  # the reason why this process ends has been printed already
    jax.distributed.shutdown()


class StopSignals:
  """A context manager that notes SIGINT and SIGTERM, so that the training loop can save before it ends.

  A second signal acts at once. Several processes all stop after the same step, whichever of them gets the signal:
  JAX's preemption service passes SIGTERM on and picks a step that no process has passed. SIGINT is turned into SIGTERM.
  The service must be polled after every step, by signal_after().
  """

  def __init__(self, start: int):
    """`start` is the number of steps done. Several processes see a SIGTERM sent before the first step only after it."""
    self._received: signal.Signals | None = None
    self._multi_process = is_multi_process()
    self._previous_handlers: dict[signal.Signals, Any] = {}
    self.signal_after(start)  # otherwise the service would pick step 1, which a resumed run never passes

  def __enter__(self) -> StopSignals:
    # The service took over SIGTERM when the processes came together; a Python handler would take it away again.
    numbers = (signal.SIGINT,) if self._multi_process else (signal.SIGINT, signal.SIGTERM)
    self._previous_handlers = {number: signal.signal(number, self._note) for number in numbers}
    return self

  def _note(self, number: int, frame: Any) -> None:
    self._received = signal.Signals(number)
    signal.signal(number, self._previous_handlers[self._received])
    if self._multi_process:
      os.kill(os.getpid(), signal.SIGTERM)

  def signal_after(self, step: int) -> signal.Signals | None:
    """The signal that ends the run after `step`, the same on all processes; None if the run goes on."""
    if not self._multi_process:
      return self._received
    return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else None

  def __exit__(self, *error: Any) -> None:
    for number, handler in self._previous_handlers.items():
      signal.signal(number, handler)
