"""The runner that works with Apache Beam (extra `beam`): on this machine, or on Dataflow, Flink or Spark.

python -m data_pipelines.build ... --runner=DirectRunner
python -m data_pipelines.build ... --runner=FlinkRunner --beam_option=flink_master=HOST:8081 --beam_option=parallelism=9

Workers write the same files as a local build, with the same code. All of them must see `--data_dir` and the input under
the same path: a cluster's file system, or a mounted bucket. The pipeline carries the work and names the items, which
lie in files beside their outcomes, because pipelines may be limited to some megabytes.
"""

from __future__ import annotations

import os
import pathlib
import pickle
import shutil
import uuid
from collections.abc import Generator, Sequence
from typing import Any

from data_pipelines.errors import DatasetError, UserError
from data_pipelines.runners.runner import Item, Report, Result, Work, counted


class Beam:
  """A `Runner` that works in Beam pipelines."""

  def __init__(self, runner: str, folder: str | os.PathLike, options: Sequence[str] = ()):
    """Prepares pipelines.

    Args:
      runner: name of the Beam runner.
      folder: one that all workers see, in which they leave what they report.
      options: pipeline options, each "key=value" or "key".

    Raises:
      DatasetError: apache-beam is not installed.
    """
    try:
      import apache_beam  # noqa: F401
    except ImportError:
      raise DatasetError("--runner needs the package apache-beam: pip install 'lsm2-aim[beam]'") from None
    self._options = [f"--runner={runner}", *(f"--{option}" for option in options)]
    self._folder = pathlib.Path(folder).expanduser().absolute()

  def __call__(self, work: Work[Item, Result], items: Sequence[Item], report: Report) -> Generator[Result]:
    """Runs a pipeline, then yields what its workers report, in the order of the items.

    Raises:
      UserError: the first error, in the order of the items, that a worker reported.
      DatasetError: no worker reported where this process can see it.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    if not items:
      return
    folder = self._folder / f"beam-{uuid.uuid4().hex}"
    folder.mkdir(parents=True, mode=0o700)
    try:
      paths = [folder / f"{number:08d}" for number in range(len(items))]
      for path, item in zip(paths, items, strict=True):
        path.write_bytes(pickle.dumps(item))
      with beam.Pipeline(options=PipelineOptions(self._options)) as pipeline:
        elements = pipeline | "Items" >> beam.Create([str(path) for path in paths]) | "Spread" >> beam.Reshuffle()
        _ = elements | "Work" >> beam.Map(_work_on, work)
      for path in paths:
        outcome = _read_outcome(path)
        if isinstance(outcome, UserError):
          raise outcome
        result, amount = outcome
        report(amount)
        yield result
    finally:
      shutil.rmtree(folder, ignore_errors=True)


def _work_on(path: str, work: Work[Any, Any]) -> None:
  """Works on the item in a file and leaves the outcome beside it; safe to run more than once, as Beam runners may."""
  try:
    outcome: Any = counted(work, pickle.loads(pathlib.Path(path).read_bytes()))
  except UserError as error:  # an outcome too, so that the user sees the same first error as in a local build
    outcome = error
  unfinished = pathlib.Path(f"{path}.{uuid.uuid4().hex}")
  unfinished.write_bytes(pickle.dumps(outcome))
  unfinished.replace(_outcome_path(pathlib.Path(path)))


def _outcome_path(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(f"{path.name}.outcome")


def _read_outcome(path: pathlib.Path) -> Any:
  try:
    return pickle.loads(_outcome_path(path).read_bytes())
  except FileNotFoundError:
    raise DatasetError(
      f"{path.parent}: no worker left a result there; do all workers see --data_dir under the same path?"
    ) from None
