"""--mode=embed and --mode=impute: from files of days to files of embeddings or filled days."""

from __future__ import annotations

import itertools
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np

from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.inference import pretrained
from aim.runtime import processes
from data_pipelines import npz
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.loader import eval_loader


def embed(trained: str, data: str, data_dir: str, split: str, output: str) -> None:
  """Writes one row a day: participant, date, e000, e001, ... as .parquet, or arrays as .npz."""
  suffix = pathlib.Path(output).suffix
  if suffix not in (".parquet", ".npz"):
    raise ConfigError(f"--output={output}: ends in {suffix!r}, expected .parquet or .npz")
  if processes.is_first_process():
    _check_writable(output)
  model = pretrained.load(trained)
  embedding, participant, date = _embedded(model, *_days(model, data, data_dir, split))
  if not processes.is_first_process():
    return
  if suffix == ".npz":
    np.savez_compressed(output, embedding=embedding, participant=participant, date=date)
  else:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"e{i:03d}": embedding[:, i] for i in range(embedding.shape[1])}
    pq.write_table(pa.table({"participant": participant, "date": date, **columns}), output)
  people = len(set(participant.tolist()))
  print(f"{output}: {len(embedding)} days of {people} people, {embedding.shape[1]} numbers each")


def _embedded(
  model: pretrained.Pretrained, days: Iterator[dict[str, np.ndarray]], total: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Embeddings, participants and dates of all days, of which each process computes its batches."""
  parts = []
  with progress_bar(total, "embed", "day") as bar:
    for batch in days:
      empty = not len(batch["values"])  # a batch that only fills up those of the other processes
      parts.append(None if empty else (model.embed(batch["values"]), batch["participant"], batch["date"]))
      bar.update(processes.process_index_and_count()[1] * len(batch["values"]))
  turns = itertools.zip_longest(*processes.gather(parts))
  found = [part for turn in turns for part in turn if part is not None]
  return tuple(np.concatenate(arrays) for arrays in zip(*found, strict=True))  # type: ignore[return-value]


def impute(trained: str, source: str, output: str) -> None:
  """Writes the days of `source` with their holes filled, and `filled` bool [days, steps, channels] telling which."""
  if pathlib.Path(output).suffix != ".npz":
    raise ConfigError(f"--output={output}: expected a name ending in .npz")
  _check_writable(output)
  model = pretrained.load(trained)
  days = npz.read_days(source, schema=model.schema, allow_empty_days=True)
  if "filled" in days.original:
    raise SchemaError(f"{source}: key 'filled' is there, so its holes are filled already")
  filled = np.isnan(days.values)
  npz.write_days(output, days.original, model.impute(days.values, progress=True), {"filled": filled})
  share = 100 * filled.mean()
  print(f"{output}: filled {filled.sum():,} of {filled.size:,} values ({share:.1f} %) in {len(filled)} days")


def _check_writable(output: str) -> None:
  """Makes the folder of the output; ConfigError now, not after hours of computing, if nothing can be written there."""
  folder = pathlib.Path(output).parent
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise ConfigError(f"--output={output}: cannot write to {folder}: {error.strerror}") from None


def _days(
  model: pretrained.Pretrained, data: str, data_dir: str, split: str
) -> tuple[Iterator[dict[str, np.ndarray]], int]:
  """Batches of values, participant and date of an npz file's days or of a dataset's, and the number of days in all.

  Of several processes each has every so many batches, those that one process has in its turn.
  """
  process_index, process_count = processes.process_index_and_count()
  if data.endswith(".npz"):
    days = npz.read_days(data, schema=model.schema)
    model.check_days(days.values, data, empty_days=False)
    columns = {"values": days.values, "participant": days.participant, "date": days.date}
    starts = range(process_index * model.batch_size, len(days.values), process_count * model.batch_size)
    cut = lambda start: slice(start, start + model.batch_size)
    return ({name: array[cut(start)] for name, array in columns.items()} for start in starts), len(days.values)
  dataset = Dataset.open(data_dir, data)
  model.check_dataset(dataset)
  splits = [name for name in ("pretrain", "tune", "eval") if dataset.num_days(name)] if split == "all" else [split]
  batches = (
    {name: array[batch["weight"] > 0] for name, array in batch.items()}
    for name in splits
    for batch in eval_loader(
      dataset,
      split=name,
      batch_size=process_count * model.batch_size,
      process_index=process_index,
      process_count=process_count,
    )
  )
  return batches, sum(dataset.num_days(name) for name in splits)
