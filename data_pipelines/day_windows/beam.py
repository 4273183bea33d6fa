"""Shards written by Apache Beam (extra `beam`): on this machine, or on Dataflow, Flink or Spark.

python -m data_pipelines.build ... --runner=DirectRunner
python -m data_pipelines.build ... --runner=FlinkRunner --beam_option=flink_master=HOST:8081 --beam_option=parallelism=9

An element is a shard of people, so workers write what a local build writes, with the same code. `--data_dir`, and the
input, are places that all workers see under the same name: a cluster's file system, or a mounted bucket.
"""

from __future__ import annotations

import pathlib
import pickle
import uuid
from collections.abc import Iterator, Sequence

from data_pipelines.day_windows.shards import Shard, Tell, Work, Written
from data_pipelines.errors import DatasetError, UserError


class Beam:
  """A runner of data_pipelines.day_windows.runners."""

  def __init__(self, runner: str, options: Sequence[str] = ()):
    """Takes the runner's name, and its pipeline options as "key=value" or "key"; DatasetError without apache-beam."""
    try:
      import apache_beam  # noqa: F401
    except ImportError:
      raise DatasetError("--runner needs the package apache-beam: pip install 'lsm2-aim[beam]'") from None
    self._options = [f"--runner={runner}", *(f"--{option}" for option in options)]

  def __call__(self, work: Work, shards: Sequence[Shard], tell: Tell) -> Iterator[Written]:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    with beam.Pipeline(options=PipelineOptions(self._options)) as pipeline:
      elements = pipeline | "Shards" >> beam.Create(list(shards)) | "Spread" >> beam.Reshuffle()
      _ = elements | "Write" >> beam.Map(_write, work)
    for shard in shards:
      written = _read(shard)
      tell(written.days)
      yield written


def _beside(shard: Shard) -> pathlib.Path:
  """Where a worker leaves word of a shard for the process that puts all together."""
  return pathlib.Path(f"{shard.path}.written")


def _write(shard: Shard, work: Work) -> None:
  """Once is enough, but a runner may do it again."""
  try:
    found: Written | UserError = work(shard)
  except UserError as error:  # for the user: the first of them in the order of shards, as a local build has it
    found = error
  unfinished = pathlib.Path(f"{_beside(shard)}.{uuid.uuid4().hex}")
  unfinished.write_bytes(pickle.dumps(found))
  unfinished.replace(_beside(shard))


def _read(shard: Shard) -> Written:
  try:
    found = pickle.loads(_beside(shard).read_bytes())
  except FileNotFoundError:
    raise DatasetError(f"{shard.path}: no worker wrote it; do all workers see --data_dir at this place?") from None
  _beside(shard).unlink()
  if isinstance(found, UserError):
    raise found
  return found
