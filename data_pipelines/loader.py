"""Batches of day windows for training and evaluation, and their way to the device.

A missing minute travels as NaN: the source writes NaN, the dataset stores it, and the loaders here yield the stored
values unchanged, in physical units, float32 [batch, steps, channels]. The model derives the boolean array `observed`
from it (observed = not NaN) when it normalises the batch on the device; from there on the missing value is *inherited*,
is never shown to the encoder and never scored by the loss. The loaders themselves neither fill nor mask anything.

Order of training batches: the days of a split are reshuffled in every epoch, repeated without end and cut into local
batches of `batch_size // process_count` days; process p of P takes local batches p, p + P, p + 2P, ... Concatenated in
the order of the processes, the local batches of a step are therefore the same global batch for every P and any number
of workers. It depends on (seed, step) alone, so resuming at a step means starting there.

A mix of datasets is drawn in the same way from each of them, and the draws are interleaved by a fixed pattern in which
each dataset has its share, evenly spread (`InterleavedDays`). A small dataset with a large weight repeats more often.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import grain
import numpy as np
from absl import flags
from jaxtyping import Int

from data_pipelines.context.other_days import OtherDays
from data_pipelines.dataset import Dataset
from data_pipelines.errors import CorruptError, DatasetError, is_whole
from data_pipelines.subset import chosen_days

# Batches that each process, or each of its workers, reads ahead; a batch of 256 days of 26 x 1440 is 38 MB.
_READ_AHEAD = 2
_READ_THREADS = 2
_PATTERN = 10_000  # draws after which the interleaving of a mix repeats; shares are multiples of its inverse
# Practically endless. Grain's own endless repeat has a length that overflows when a local batch is a single day.
_EPOCHS = 2**31
_SUBSTITUTES = 100  # days tried in place of one that cannot be read

Batch = dict[str, np.ndarray]
OnDevice = TypeVar("OnDevice")


def _local_batch(batch_size: int, process_index: int, process_count: int) -> int:
  if not is_whole(batch_size) or batch_size < 1 or process_count < 1 or batch_size % process_count:
    raise DatasetError(
      f"batch_size is {batch_size!r}, expected a positive multiple of the number of processes ({process_count})"
    )
  if not 0 <= process_index < process_count:
    raise DatasetError(f"process_index is {process_index}, expected 0 to {process_count - 1}")
  return batch_size // process_count


def _training_fields(day: Mapping[str, Any]) -> dict[str, Any]:
  """The values of a stored day as they are, NaN where missing, whether it substitutes a damaged one, and its place."""
  return {"values": day["values"], "corrupt": np.int32(day.get("corrupt", 0)), "place": day["place"]}


def _without_place(day: dict[str, Any]) -> dict[str, np.ndarray]:
  return {name: value for name, value in day.items() if name != "place"}


class _PlacedDays:
  """The days of a split, each with its place in it."""

  def __init__(self, source: Sequence[dict[str, Any]]):
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return {**self._source[index], "place": int(index)}


class _WithContext:
  """Adds to the n-th day of a stream the profile of some of the person's other days, drawn from the key and n alone."""

  def __init__(self, others: OtherDays, key: Sequence[int]):
    self._others, self._key = others, key

  def __call__(self, index: int, day: dict[str, Any]) -> dict[str, np.ndarray]:
    mean, count = self._others.profile(self._others.drawn(day["place"], (*self._key, int(index))))
    return {**_without_place(day), "context_mean": mean, "context_count": count}


class _SelectedDays:
  """The days of a source at some indices, in that order."""

  def __init__(self, source: Sequence[dict[str, Any]], indices: Int[np.ndarray, " selected"]):
    self._source, self._indices = source, indices

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self._source[int(self._indices[index])]


class _DaysWithSubstitutes:
  """A source that replaces a day that cannot be read by another one, with the key "corrupt" set to 1."""

  def __init__(self, source: Sequence[dict[str, Any]], seed: int):
    self._source, self._seed = source, seed
    self._reported: set[int] = set()

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    try:
      return self._source[index]
    except CorruptError as error:
      if index not in self._reported:
        self._reported.add(index)
        print(f"{error}; skipped (config.data.on_corrupt)", file=sys.stderr, flush=True)
      return {**self._substitute(index, error), "corrupt": 1}

  def _substitute(self, index: int, error: CorruptError) -> dict[str, Any]:
    """Another day, drawn from the index alone so that every process and worker picks the same one."""
    for other in np.random.default_rng((self._seed, index)).integers(len(self), size=_SUBSTITUTES):
      try:
        return self._source[int(other)]
      except CorruptError:
        pass
    raise DatasetError(f"{error}; none of the {_SUBSTITUTES} days drawn to replace it can be read either") from error


class InterleavedDays:
  """Several endless sequences of days as one, each with its share of it.

  The n-th day of a sequence stands where the share of the sequence is reached for the n-th time, so that every stretch
  has nearly the shares of the whole; and the days of a sequence keep their order.
  """

  def __init__(self, days: Sequence[Sequence[Any]], weights: Sequence[float]):
    shares = np.array(weights, np.float64) / np.sum(weights)
    counts = np.maximum(np.rint(_PATTERN * shares).astype(int), 1)
    self._days, self._counts = days, counts // np.gcd.reduce(counts)
    moments = np.concatenate([(np.arange(count) + 0.5) / count for count in self._counts])
    owners = np.repeat(np.arange(len(days)), self._counts)
    order = np.lexsort((owners, moments))
    self._owner = owners[order]
    self._place = np.concatenate([np.arange(count) for count in self._counts])[order]

  def __len__(self) -> int:
    return len(self._owner) * min(len(days) // count for days, count in zip(self._days, self._counts, strict=True))

  def __getitem__(self, index: int) -> Any:
    cycle, position = divmod(int(index), len(self._owner))
    owner = self._owner[position]
    return self._days[owner][cycle * int(self._counts[owner]) + int(self._place[position])]


class TrainLoader(Iterator[Batch]):
  """Endless training batches; `train_loader` makes one and describes them.

  Attributes:
    step: training step of the next batch.
  """

  def __init__(self, batches: grain.DatasetIterator, start_step: int, where: str):
    self._batches = batches
    self._where = where
    self.step = start_step

  def __next__(self) -> Batch:
    try:
      batch = next(self._batches)
    except Exception as error:
      raise _unreadable(self._where, error) from error
    self.step += 1
    # A worker's batch lies in shared memory, which is scarce: copy it so that nothing holds on to it.
    return {key: array if type(array) is np.ndarray else np.array(array) for key, array in batch.items()}

  def close(self) -> None:
    """Stops reading ahead and ends the worker processes."""
    self._batches.close()

  def __enter__(self) -> TrainLoader:
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


def train_loader(
  dataset: Dataset,
  *,
  split: str = "pretrain",
  batch_size: int,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 0,
  max_missing: float = 1.0,
  max_participants: int = 0,
  max_days: int = 0,
  on_corrupt: str = "stop",
  context_days: int = 0,
) -> TrainLoader:
  """Yields this process's part of every global batch from `start_step` on, without end.

  Args:
    dataset: the dataset to read; of a mix, days of each member are drawn in proportion to its weight.
    split: the split to read.
    batch_size: number of days in the global batch; may exceed the size of the split.
    seed: 0 to 2**32 - 1; together with the step it decides which days are in a batch.
    start_step: step of the first batch.
    process_index: which of the processes this is.
    process_count: how many processes share a global batch.
    workers: number of processes that read and decompress; 0 reads in threads of this process. Workers are spawned, so a
      script that uses them needs `if __name__ == "__main__"`.
    max_missing, max_participants, max_days: which days to train on, see `subset.chosen_days`; by default all.
    on_corrupt: what to do about a day that cannot be read. "stop" raises DatasetError. "skip" substitutes another day,
      reports that on stderr and marks the day as corrupt; the order of all other days is unchanged.
    context_days: above 0, each day comes with the means of 0 to so many of the person's nearest other days among those
      that are trained on. How many and which is drawn anew every time that the day comes.

  Returns:
    An iterator of {"values": float32 [local, steps, channels], "corrupt": int32 [local]}, where local =
    batch_size // process_count. `values` are in physical units, NaN where missing; `corrupt` is 1 where a day replaces
    one that cannot be read. With context_days also "context_mean" and "context_count", the fields of a Profile
    (data_pipelines/context/profile.py). Close the iterator, or use it in a `with` statement.

  Raises:
    DatasetError: the split is unknown or empty, or a number is out of range.
  """
  local = _local_batch(batch_size, process_index, process_count)
  for name, number in (("start_step", start_step), ("seed", seed), ("workers", workers)):
    if not is_whole(number):
      raise DatasetError(f"{name} is {number!r}, expected a whole number")
  if start_step < 0:
    raise DatasetError(f"start_step is {start_step}, expected 0 or more")
  if not 0 <= seed < 2**32:
    raise DatasetError(f"seed is {seed}, expected 0 to {2**32 - 1}")
  if workers < 0:
    raise DatasetError(f"workers is {workers}, expected 0 or more")
  if on_corrupt not in ("stop", "skip"):
    raise DatasetError(f"on_corrupt is {on_corrupt!r}, expected stop or skip")
  dataset.require_days(split)
  members = [(member, weight) for member, weight in dataset.members if member.num_days(split)]
  streams = []
  for number, (member, _) in enumerate(members):
    source: Any = _PlacedDays(member.days(split))
    chosen = None
    if max_missing != 1 or max_participants or max_days:
      chosen = chosen_days(member, split, max_missing, max_participants, max_days)
      source = _SelectedDays(source, chosen)
    if on_corrupt == "skip":
      source = _DaysWithSubstitutes(source, seed)
    stream = grain.MapDataset.source(source).map(_training_fields).shuffle(seed).repeat(_EPOCHS)
    if context_days:
      others = OtherDays(member, split, context_days, chosen, on_corrupt)
      stream = stream.map_with_index(_WithContext(others, (seed, number)))
    else:
      stream = stream.map(_without_place)
    streams.append(stream)
  days = streams[0]
  if len(streams) > 1:
    days = grain.MapDataset.source(InterleavedDays(streams, [weight for _, weight in members]))
  # Batches are cut before processes and workers take turns, so neither changes the contents of a batch.
  batches = days.batch(local)[start_step * process_count + process_index :: process_count]
  threads = grain.ReadOptions(num_threads=_READ_THREADS, prefetch_buffer_size=_READ_AHEAD)
  stream = batches.to_iter_dataset(threads)
  if workers:
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # grain's workers read absl flags, which nobody parses in a notebook
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_READ_AHEAD)
    stream = stream.mp_prefetch(options)
  return TrainLoader(iter(stream), start_step, _where(dataset, split))


def _where(dataset: Dataset, split: str) -> str:
  return f"{dataset.path}: split {split!r} of dataset {dataset.name!r}"


def _unreadable(where: str, error: Exception) -> DatasetError:
  """A one-line error for what array_record, TFDS and grain raise about a damaged, truncated or absent file."""
  if isinstance(error, DatasetError):
    return error  # already names the file and the record
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return DatasetError(f"{where} cannot be read, build it again: {lines[0]}")


class _PaddedDays:
  """Days in order with weight 1, followed by all-NaN days of weight 0 that fill up the last global batch."""

  def __init__(self, source: Sequence[dict[str, Any]], batch_size: int, shape: tuple[int, int]):
    self._source = source
    self._length = -(-len(source) // batch_size) * batch_size
    self._shape = shape

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> dict[str, Any]:
    if index >= len(self._source):
      padding = np.full(self._shape, np.nan, np.float32)
      return {"values": padding, "weight": np.float32(0), "participant": "", "date": "", "day": np.int32(-1)}
    day = self._source[index]
    return {
      "values": day["values"],
      "weight": np.float32(1),
      "participant": day["participant"].decode(),
      "date": day["date"].decode(),
      "day": np.int32(day["day"]),
    }


def _stack(days: Sequence[Mapping[str, Any]]) -> Batch:
  return {key: np.stack([day[key] for day in days]) for key in days[0]}


def eval_loader(
  dataset: Dataset,
  *,
  split: str,
  batch_size: int,
  process_index: int = 0,
  process_count: int = 1,
  indices: Int[np.ndarray, " selected"] | None = None,
) -> Iterator[Batch]:
  """Yields this process's part of every day of a split, once, in the order in which the days were built.

  All processes yield the same number of batches of the same size b = batch_size // process_count, because the last
  global batch is padded with all-NaN days of weight 0 and participant "".

  Args:
    dataset: the dataset to read.
    split: the split to read.
    batch_size: number of days in the global batch.
    process_index: which of the processes this is.
    process_count: how many processes share a global batch.
    indices: of the days in `dataset.days(split)` to read instead of all; no other day is read.

  Yields:
    {"values": float32 [b, steps, channels] in physical units, NaN where missing; "weight": float32 [b];
    "participant", "date": str [b]; "day": int32 [b]}.

  Raises:
    DatasetError: the split is unknown or empty, or a number is out of range; while iterating: a day cannot be read.
  """
  local = _local_batch(batch_size, process_index, process_count)
  schema = dataset.schema
  source: Any = dataset.days(split)
  if indices is not None:
    source = _SelectedDays(source, _checked_indices(indices, len(source)))
  days = _PaddedDays(source, batch_size, (schema.steps, len(schema.channels)))
  batches = grain.MapDataset.source(days).batch(local, batch_fn=_stack)[process_index::process_count]
  stream = batches.to_iter_dataset(grain.ReadOptions(_READ_THREADS, _READ_AHEAD))
  return _iterate(stream, _where(dataset, split))


def _checked_indices(indices: Any, days: int) -> Int[np.ndarray, " selected"]:
  checked = np.asarray(indices)
  if checked.ndim != 1 or (len(checked) and checked.dtype.kind not in "iu"):
    raise DatasetError(f"indices are {checked.dtype} {checked.shape}, expected whole numbers [days]")
  outside = checked[(checked < 0) | (checked >= days)]
  if len(outside):
    raise DatasetError(f"indices hold {outside[0]}, expected 0 to {days - 1}")
  return checked.astype(np.int64)


def _iterate(stream: grain.IterDataset, where: str) -> Iterator[Batch]:
  # A generator of its own, so that eval_loader raises errors about its arguments when called, not at the first batch.
  batches = iter(stream)
  try:
    yield from batches
  except Exception as error:
    raise _unreadable(where, error) from error
  finally:
    batches.close()


_END = object()


def device_prefetch(iterator: Iterator[Batch], put: Callable[[Batch], OnDevice], size: int = 2) -> Generator[OnDevice]:
  """Runs `put` on upcoming batches in a thread, so that copies to the device overlap with computation.

  Args:
    iterator: local batches; closed at the end if it has a `close` method.
    put: turns a local batch into device arrays.
    size: how many results may be waiting to be consumed.

  Yields:
    put(batch), in order. An exception raised by `iterator` or `put` is raised at its position in the order. Close the
    generator to stop early.

  Raises:
    DatasetError: size is not positive.
  """
  if size < 1:
    raise DatasetError(f"size of the device prefetch is {size}, expected at least 1")
  return _prefetch(iterator, put, size)


def _prefetch(iterator: Iterator[Batch], put: Callable[[Batch], OnDevice], size: int) -> Generator[OnDevice]:
  ready: queue.SimpleQueue = queue.SimpleQueue()
  permits = threading.Semaphore(size)
  stop = threading.Event()

  def work() -> None:
    try:
      while True:
        permits.acquire()
        if stop.is_set():
          return
        ready.put((put(next(iterator)), None))
    except StopIteration:
      ready.put((_END, None))
    except BaseException as error:
      ready.put((_END, error))

  thread = threading.Thread(target=work, name="device_prefetch", daemon=True)
  thread.start()
  try:
    while True:
      result, error = ready.get()
      if error is not None:
        raise error
      if result is _END:
        return
      permits.release()
      yield result
  finally:
    stop.set()
    permits.release()
    thread.join()
    if hasattr(iterator, "close"):
      iterator.close()
