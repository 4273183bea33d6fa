"""Writes metrics: to metrics.jsonl always, to TensorBoard and Weights & Biases if config.log asks for them."""

from __future__ import annotations

import importlib.util
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any

import ml_collections

from aim.common.config_files import ConfigError
from aim.runtime import processes
from data_pipelines.errors import first_line
from data_pipelines.text_files import counted, json_text, parse_json_object, replace_text


class MetricsWriter:
  """Appends {"step": ..., name: value} lines to <workdir>/metrics.jsonl and writes to the sinks of config.log.

  A number that is NaN or Inf is null in the file.

  Only the first process writes: the metrics of the others are the same.
  """

  def __init__(self, workdir: pathlib.Path, config: ml_collections.ConfigDict | None = None, start: int = 0):
    """Opens the file and the sinks.

    Args:
      workdir: the run's folder.
      config: config.log; None for the file alone.
      start: steps completed before. Lines of later steps, which were lost with their process, are cut off.

    Raises:
      ConfigError: Weights & Biases cannot be reached, or refuses the run.
    """
    self.file = self.tensorboard = self.wandb = None
    if not processes.is_first_process():
      return
    _truncate(workdir / "metrics.jsonl", start)
    self.file = (workdir / "metrics.jsonl").open("a", buffering=1)
    if config is not None and config.tensorboard:
      self.tensorboard = importlib.import_module("tensorboardX").SummaryWriter(
        str(workdir / "tensorboard"),
        purge_step=start + 1,
        filename_suffix=f".{start}",  # without it, a restart within the same second overwrites the file
      )
    if config is not None and config.wandb:
      self.wandb = _wandb_run(workdir, config.wandb)

  def write(self, step: int, metrics: dict[str, Any]) -> None:
    """Writes one line; TensorBoard and Weights & Biases get its numbers.

    Raises:
      OSError: the file cannot be written, for example because the disk is full.
    """
    if self.file is not None:
      try:
        self.file.write(json_text({"step": step, **metrics}) + "\n")
      except OSError as error:  # Python does not name the file
        raise OSError(error.errno, error.strerror, self.file.name) from None
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    if self.tensorboard is not None:
      for name, value in numbers.items():
        self.tensorboard.add_scalar(name, value, step)
    if self.wandb is not None:
      self.wandb.log({"step": step, **numbers})

  def close(self) -> None:
    """Closes the file and the sinks."""
    if self.file is not None:
      self.file.close()
    if self.tensorboard is not None:
      self.tensorboard.close()
    if self.wandb is not None:
      self.wandb.finish()


def earlier_lines(workdir: pathlib.Path, start: int) -> list[dict[str, Any]]:
  """The lines of a workdir's metrics.jsonl, of steps up to `start`."""
  return [entry for _, entry in _lines(workdir / "metrics.jsonl") if entry and entry["step"] <= start]


def check_sinks(config: ml_collections.ConfigDict) -> None:
  """Checks that the packages are installed that the sinks of config.log need, without importing them.

  Raises:
    ConfigError: one is not.
  """
  for extra, (module, wanted) in {
    "tensorboard": ("tensorboardX", config.tensorboard),
    "wandb": ("wandb", config.wandb),
  }.items():
    if wanted and importlib.util.find_spec(module) is None:
      raise ConfigError(f"config.log.{extra} needs the package {module}: pip install 'lsm2-aim[{extra}]'")


def _wandb_run(workdir: pathlib.Path, project: str) -> Any:
  """The run of a workdir, which is the same one after an interruption.

  The step is a metric of its own: W&B drops lines whose step is not above the last one, as after a restart.

  Raises:
    ConfigError: there is no connection or no account, or W&B refuses the run.
  """
  wandb = importlib.import_module("wandb")
  path = workdir / "wandb_run.txt"
  run_id = path.read_text().strip() if path.is_file() else secrets.token_hex(4)
  try:
    run = wandb.init(project=project, dir=str(workdir), id=run_id, resume="allow")
  except Exception as error:  # of several kinds, none of which is documented
    why = first_line(error, 200)
    raise ConfigError(f"config.log.wandb={project}: {why}; WANDB_MODE=offline needs no connection") from None
  replace_text(path, f"{run_id}\n")
  run.define_metric("step")
  run.define_metric("*", step_metric="step")
  return run


def _truncate(path: pathlib.Path, start: int) -> None:
  """Keeps the lines of steps up to `start`. Damaged lines are dropped, and reported unless only the end is missing."""
  lines = list(_lines(path))
  earlier = [line for line, entry in lines if entry and entry["step"] <= start]
  damaged = [number for number, (line, entry) in enumerate(lines, start=1) if entry is None and line.endswith(b"\n")]
  if damaged:
    print(f"note: {path}: dropped {counted(len(damaged), 'damaged line')} (first: line {damaged[0]})", flush=True)
  if len(earlier) < len(lines):
    replace_text(path, b"".join(earlier).decode())


def _lines(path: pathlib.Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
  """Yields each line with its content, None where it is cut off or damaged."""
  for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
    try:
      entry = parse_json_object(line.decode(), "") if line.endswith(b"\n") else {}
    except ValueError:
      entry = {}
    yield line, entry if isinstance(entry.get("step"), int) else None
