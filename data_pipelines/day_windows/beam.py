"""The runner that writes shards with Apache Beam (extra `beam`): on this machine, or on Dataflow, Flink or Spark.

python -m data_pipelines.build ... --runner=DirectRunner
python -m data_pipelines.build ... --runner=FlinkRunner --beam_option=flink_master=HOST:8081 --beam_option=parallelism=9

An element of the pipeline is a shard of people, so workers write the same files as a local build, with the same code.
All workers must see `--data_dir` and the input under the same path: a cluster's file system, or a mounted bucket.
"""

from __future__ import annotations

import pathlib
import pickle
import uuid
from collections.abc import Iterator, Sequence

from data_pipelines.day_windows.shards import ReportDays, Shard, ShardWriter, WrittenShard
from data_pipelines.errors import DatasetError, UserError


class Beam:
  """A `Runner` that writes the shards in a Beam pipeline."""

  def __init__(self, runner: str, options: Sequence[str] = ()):
    """Prepares a pipeline.

    Args:
      runner: name of the Beam runner.
      options: its pipeline options, each "key=value" or "key".

    Raises:
      DatasetError: apache-beam is not installed.
    """
    try:
      import apache_beam  # noqa: F401
    except ImportError:
      raise DatasetError("--runner needs the package apache-beam: pip install 'lsm2-aim[beam]'") from None
    self._options = [f"--runner={runner}", *(f"--{option}" for option in options)]

  def __call__(
    self, write_shard: ShardWriter, shards: Sequence[Shard], report_days: ReportDays
  ) -> Iterator[WrittenShard]:
    """Runs the pipeline, then yields what its workers report, in the order of the shards.

    Raises:
      UserError: the first error, in the order of the shards, that a worker reported.
      DatasetError: no worker wrote a shard where this process can see it.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    with beam.Pipeline(options=PipelineOptions(self._options)) as pipeline:
      elements = pipeline | "Shards" >> beam.Create(list(shards)) | "Spread" >> beam.Reshuffle()
      _ = elements | "Write" >> beam.Map(_write, write_shard)
    for shard in shards:
      written = _read_outcome(shard)
      report_days(written.days)
      yield written


def _outcome_path(shard: Shard) -> pathlib.Path:
  """The file in which a worker leaves the outcome of a shard for the process that started the build."""
  return pathlib.Path(f"{shard.path}.written")


def _write(shard: Shard, write_shard: ShardWriter) -> None:
  """Writes a shard and its outcome; safe to run more than once, as Beam runners may."""
  try:
    outcome: WrittenShard | UserError = write_shard(shard)
  except UserError as error:  # an outcome too, so that the user sees the same first error as in a local build
    outcome = error
  unfinished = pathlib.Path(f"{_outcome_path(shard)}.{uuid.uuid4().hex}")
  unfinished.write_bytes(pickle.dumps(outcome))
  unfinished.replace(_outcome_path(shard))


def _read_outcome(shard: Shard) -> WrittenShard:
  try:
    outcome = pickle.loads(_outcome_path(shard).read_bytes())
  except FileNotFoundError:
    raise DatasetError(
      f"{shard.path}: no worker wrote it; do all workers see --data_dir under the same path?"
    ) from None
  _outcome_path(shard).unlink()
  if isinstance(outcome, UserError):
    raise outcome
  return outcome
