"""The processes of one run: found from flags, Cloud TPU, GKE or Slurm; who of them speaks; when they stop together."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib.util
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from data_pipelines.errors import UserError

PORT = 8476  # of the first pod of a JobSet, where no scheduler names one
LOST = 76  # exit code of a process whose run lost another one; EX_PROTOCOL of sysexits.h
FAREWELL = 10.0  # seconds in which processes that fail alike may all say so
LAST = 24 * 3600  # seconds that those done wait for the first, which draws intervals and figures alone
# Set by srun in every task, and by sbatch's own shell not all of them: that one is no part of a run.
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
# The first three come from launch/jobset_gpu.yaml, the last from Kubernetes.
JOBSET = ("JOBSET_NAME", "REPLICATED_JOB_NAME", "JAX_NUM_PROCESSES", "JOB_COMPLETION_INDEX")


class ProcessGroupError(UserError):
  """The processes of a run cannot be told or do not find each other."""


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
  """What tells of several processes, and what jax.distributed.initialize is given; None: JAX asks there itself."""

  where: str
  coordinator: str | None = None
  processes: int | None = None
  process: int | None = None


def initialize(mode: str, coordinator: str | None, processes: int | None, process: int | None) -> None:
  """Joins the other processes, where there are any; before anything touches a device.

  All but the first say nothing from then on but errors: they lose their standard output. ProcessGroupError if the flags are
  incomplete, mode "on" finds nothing, or the others do not come.
  """
  found = find_process_group(mode, coordinator, processes, process, os.environ)
  if found is None:
    return
  try:
    jax.distributed.initialize(found.coordinator, found.processes, found.process, shutdown_timeout_seconds=LAST)
  except (RuntimeError, ValueError, OSError) as error:
    raise ProcessGroupError(f"the processes of this run ({found.where}) did not come together: {error}") from None
  ctypes.CDLL(None).signal(int(signal.SIGABRT), _ABORTED)
  if not is_first_process():
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is written below Python too


# When process 0 is gone, or heartbeats were missed, JAX aborts below Python, from a thread that waits for nothing.
_ABORTED = ctypes.CFUNCTYPE(None, ctypes.c_int)(
  lambda number: exit_after_lost_process("JAX aborted, for the reason above")
)


def find_process_group(
  mode: str, coordinator: str | None, processes: int | None, process: int | None, environment: Mapping[str, str]
) -> ProcessGroup | None:
  """The processes of the flags --coordinator, --num_processes and --process_id, or else of the environment.

  None: this process is alone. mode: --distributed, "auto", "on" or "off".
  """
  flags = {"coordinator": coordinator, "num_processes": processes, "process_id": process}
  given = [name for name, value in flags.items() if value is not None]
  if given and mode == "off":
    raise ProcessGroupError(f"--{given[0]} and --distributed=off exclude each other")
  if given:
    return _of_flags(flags)
  if mode == "off":
    return None
  found = _of_environment(environment)
  if found is None and mode == "on":
    raise ProcessGroupError(
      "--distributed=on: nothing here tells of other processes (looked for a Cloud TPU, TPU_WORKER_HOSTNAMES, "
      f"{', '.join(JOBSET)}, SLURM_*); name them with --coordinator=HOST:PORT --num_processes=N --process_id=I"
    )
  return found


def _of_flags(flags: Mapping[str, Any]) -> ProcessGroup:
  missing = [name for name, value in flags.items() if value is None]
  if missing:
    raise ProcessGroupError(f"--{missing[0]} is missing: --coordinator, --num_processes and --process_id go together")
  address, processes, process = flags.values()
  host, _, port = address.rpartition(":")
  if not host or not port.isdigit():
    raise ProcessGroupError(f"--coordinator={address}: expected HOST:PORT")
  if not 0 <= process < processes:
    raise ProcessGroupError(f"--process_id={process}: expected 0 to {processes - 1}, one less than --num_processes")
  return ProcessGroup("--coordinator", address, processes, process)


def _of_environment(environment: Mapping[str, str]) -> ProcessGroup | None:
  workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
  if "," in workers or _number(environment, "MEGASCALE_NUM_SLICES") > 1:
    return ProcessGroup("TPU_WORKER_HOSTNAMES, MEGASCALE_NUM_SLICES")
  if all(name in environment for name in JOBSET) and _number(environment, "JAX_NUM_PROCESSES") > 1:
    jobset, job = environment["JOBSET_NAME"], environment["REPLICATED_JOB_NAME"]
    # Pods of a JobSet have the host name JOBSET-JOB-REPLICA-INDEX in the subdomain JOBSET.
    first_pod = f"{jobset}-{job}-0-0.{jobset}:{PORT}"
    processes = _number(environment, "JAX_NUM_PROCESSES")
    return ProcessGroup("JobSet", first_pod, processes, _number(environment, "JOB_COMPLETION_INDEX"))
  if all(name in environment for name in SLURM) and _number(environment, "SLURM_NTASKS") > 1:
    return ProcessGroup("Slurm")
  return ProcessGroup("Cloud TPU VM") if _on_tpu_vm(environment) else None


def _number(environment: Mapping[str, str], name: str) -> int:
  try:
    return int(environment.get(name) or 0)
  except ValueError:
    raise ProcessGroupError(f"the environment's {name} is {environment[name]!r}, expected a number") from None


def _on_tpu_vm(environment: Mapping[str, str]) -> bool:
  """A VM of Cloud TPU, alone or not: its metadata server, which JAX asks, knows the other workers."""
  if "TPU_SKIP_MDS_QUERY" in environment or "TPU_WORKER_HOSTNAMES" in environment:  # no chips; GKE
    return False
  # JAX puts tpu first where it found chips and nobody chose otherwise.
  platforms = jax.config.jax_platforms or ""  # type: ignore[attr-defined]
  return platforms.startswith("tpu") and importlib.util.find_spec("libtpu") is not None


def is_first_process() -> bool:
  """Whether this process is the one that prints and writes; asks no device where it is alone."""
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def is_multi_process() -> bool:
  """Whether there are other processes."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def process_index_and_count() -> tuple[int, int]:
  """This process's number, and how many there are."""
  return (jax.process_index(), jax.process_count()) if is_multi_process() else (0, 1)


def gather(thing: Any) -> list[Any]:
  """What each process has, in their order, on all of them: results, pickled, below 2 GB a process."""
  if not is_multi_process():
    return [thing]
  mine = np.frombuffer(pickle.dumps(thing), np.uint8)
  lengths = multihost_utils.process_allgather(np.int32(len(mine)))
  rows = multihost_utils.process_allgather(np.pad(mine, (0, int(lengths.max()) - len(mine))))
  return [pickle.loads(row[:length].tobytes()) for row, length in zip(np.asarray(rows), lengths, strict=True)]


_ending = threading.Lock()  # taken once, by whoever ends the process


def exit_after_lost_process(why: object) -> NoReturn:
  """Ends this process, one of several, at once: a save or a farewell would wait for one that is gone."""
  _ending.acquire()
  reason = (str(why).strip() or type(why).__name__).splitlines()[0][:300]
  print(
    f"error: the processes of this run cannot go on together, one of them may have ended ({reason}); repeat the "
    "command on every host to go on from the newest checkpoint",
    file=sys.stderr,
    flush=True,
  )
  os._exit(LOST)


@contextlib.contextmanager
def exit_on_lost_process() -> Iterator[None]:
  """Inside, what fails in a computation that several processes share ends this one by exit_after_lost_process()."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if is_multi_process():
      exit_after_lost_process(error)
    raise


def exit_process(code: int) -> NoReturn:
  """Ends a process that failed. JAX's own farewell to the others may never be answered, so it gets little time."""
  if is_multi_process():
    farewell = threading.Thread(target=_shutdown, daemon=True)
    farewell.start()
    farewell.join(FAREWELL)
    sys.stdout.flush()
    sys.stderr.flush()
    _ending.acquire()
    os._exit(code)
  sys.exit(code)


def _shutdown() -> None:
  with contextlib.suppress(Exception):  # the reason why this process ends is told already
    jax.distributed.shutdown()


class StopSignals:
  """SIGINT and SIGTERM, noted so that the loop can save before it ends; a second one acts at once.

  Of several processes all stop after the same step, whichever of them is told: JAX's preemption service passes
  SIGTERM on and picks a step that none has passed; SIGINT becomes SIGTERM. The service must be asked at every step.
  """

  def __init__(self, start: int):
    """start: steps done. A SIGTERM that comes before the first step is told after it, to several processes."""
    self._received: signal.Signals | None = None
    self._together = is_multi_process()
    self._old: dict[signal.Signals, Any] = {}
    self.after(start)  # else the service would pick step 1, which a run that goes on never passes

  def __enter__(self) -> StopSignals:
    # The service has taken SIGTERM when the processes came together; a handler of Python's would take it away.
    numbers = (signal.SIGINT,) if self._together else (signal.SIGINT, signal.SIGTERM)
    self._old = {number: signal.signal(number, self._note) for number in numbers}
    return self

  def _note(self, number: int, frame: Any) -> None:
    self._received = signal.Signals(number)
    signal.signal(number, self._old[self._received])
    if self._together:
      os.kill(os.getpid(), signal.SIGTERM)

  def after(self, step: int) -> signal.Signals | None:
    """The signal that ends the run after `step`, the same on all processes."""
    if not self._together:
      return self._received
    return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else None

  def __exit__(self, *error: Any) -> None:
    for number, handler in self._old.items():
      signal.signal(number, handler)
