"""What a run tells: metrics.jsonl always, a progress bar, TensorBoard and Weights & Biases where asked."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

import ml_collections

from aim.common.config_files import ConfigError
from aim.runtime import processes


class MetricsWriter:
  """Appends {"step": ..., name: value} lines to <workdir>/metrics.jsonl, and to the sinks config.log names.

  Of several processes the first writes; the others' metrics are the same.
  """

  def __init__(self, workdir: pathlib.Path, config: ml_collections.ConfigDict | None = None, start: int = 0):
    """start: steps done; what the file tells of later ones, lost with their process, is cut off."""
    self.file = self.tensorboard = self.wandb = None
    if not processes.is_first_process():
      return
    _cut(workdir / "metrics.jsonl", start)
    self.file = (workdir / "metrics.jsonl").open("a", buffering=1)
    if config is not None and config.tensorboard:
      self.tensorboard = _optional("tensorboardX", "tensorboard").SummaryWriter(
        str(workdir / "tensorboard"), purge_step=start + 1
      )
    if config is not None and config.wandb:
      self.wandb = _optional("wandb", "wandb").init(project=config.wandb, dir=str(workdir), resume="allow")

  def write(self, step: int, metrics: dict[str, Any]) -> None:
    if self.file is not None:
      try:
        self.file.write(json.dumps({"step": step, **metrics}) + "\n")
      except OSError as error:  # a full disk; Python does not tell which file
        raise OSError(error.errno, error.strerror, self.file.name) from None
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    if self.tensorboard is not None:
      for name, value in numbers.items():
        self.tensorboard.add_scalar(name, value, step)
    if self.wandb is not None:
      self.wandb.log(numbers, step=step)

  def close(self) -> None:
    if self.file is not None:
      self.file.close()
    if self.tensorboard is not None:
      self.tensorboard.close()
    if self.wandb is not None:
      self.wandb.finish()


def _cut(path: pathlib.Path, start: int) -> None:
  """Leaves the lines of steps up to `start`; the last line may have been written by half."""
  lines = path.read_text().splitlines(keepends=True) if path.exists() else []
  kept = [line for line in lines if _step(line) <= start]
  if len(kept) < len(lines):
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text("".join(kept))
    fresh.replace(path)


def _step(line: str) -> float:
  try:
    return float(json.loads(line)["step"]) if line.endswith("\n") else math.inf
  except (ValueError, KeyError, TypeError):
    return math.inf


def _optional(module: str, extra: str) -> Any:
  try:
    return __import__(module)
  except ImportError:
    raise ConfigError(f"config.log.{extra} needs the package {module}: pip install 'lsm2-aim[{extra}]'") from None
