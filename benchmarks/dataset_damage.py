"""Flips random bits in the files of a dataset, one at a time, and reads all of the dataset each time.

  python -m benchmarks.dataset_damage --flips=200 --output=benchmarks/results/dataset_damage.csv

Each flip must be refused with one line that names the file, or be without effect: every day, table and number is what
it was to the bit. Files are drawn with equal chances, so that small ones are hit as often as the records.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import random
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from aim.common.tables import write_rows
from data_pipelines.build import build, simulate_request
from data_pipelines.dataset import Dataset
from data_pipelines.errors import UserError
from data_pipelines.simulator.simulation import Simulation
from data_pipelines.splits import SPLITS, HashSplit

# Words for what came of a flip. The last two must not happen.
REFUSED, NO_EFFECT, UNNOTICED, OBSCURE = "refused", "no effect", "unnoticed", "obscure"


@dataclasses.dataclass(frozen=True)
class Flip:
  """One flip.

  Attributes:
    file: the name of the file.
    size: its bytes.
    byte, bit: the place.
    outcome: one of the words above; an error counts as obscure if it is not one line that names the file.
    message: what the dataset was refused with.
  """

  file: str
  size: int
  byte: int
  bit: int
  outcome: str
  message: str


def main(argv: Sequence[str]) -> None:
  with tempfile.TemporaryDirectory() as folder:
    source, split = Simulation(participants=12, days=2, seed=0), HashSplit((0.6, 0.2, 0.2))
    build(source, folder, "damaged", split=split, request=simulate_request(12, 2, 0))
    found = list(
      tqdm(
        flips(pathlib.Path(folder), "damaged", flags.FLAGS.flips, flags.FLAGS.seed),
        total=flags.FLAGS.flips,
        unit="flip",
      )
    )
  kinds = [(flip.file.split("-")[0], flip.outcome) for flip in found]
  for (file, outcome), count in sorted(collections.Counter(kinds).items()):
    print(f"{file:25} {outcome:10} {count:4}")
  print(*(flip for flip in found if flip.outcome in (UNNOTICED, OBSCURE)), sep="\n")
  if flags.FLAGS.output:
    write_rows(flags.FLAGS.output, [f.name for f in dataclasses.fields(Flip)], map(dataclasses.astuple, found))


def flips(data_dir: pathlib.Path, name: str, count: int, seed: int) -> Iterator[Flip]:
  """Yields `count` random flips of single bits in the files of a dataset, each of which is undone."""
  random_place = random.Random(seed)
  intact = everything(data_dir, name)
  files = sorted(Dataset.open(data_dir, name).path.iterdir())
  for _ in range(count):
    file = random_place.choice(files)
    raw = file.read_bytes()
    byte, bit = random_place.randrange(len(raw)), random_place.randrange(8)
    file.write_bytes(raw[:byte] + bytes([raw[byte] ^ 1 << bit]) + raw[byte + 1 :])
    try:
      outcome, message = _outcome(data_dir, name, file, intact)
    finally:
      file.write_bytes(raw)
    yield Flip(file.name, len(raw), byte, bit, outcome, message.replace(f"{file.parent}/", ""))


def everything(data_dir: pathlib.Path, name: str) -> list[Any]:
  """All that a program can read of a dataset, as values that compare equal only if they are equal to the bit."""
  dataset = Dataset.open(data_dir, name)
  statistics = dataclasses.astuple(dataset.statistics)
  read: list[Any] = [dataset.schema, dataset.request, dataset.digest, dataset.exclusive_events()]
  read += [np.asarray(array).tobytes() for array in statistics]
  read += [dataset.participants().to_pylist(), dataset.events().to_pylist()]
  for split in SPLITS:
    read.append(dataset.people(split))
    if dataset.num_days(split):
      read += [dataset.missing_shares(split).tobytes()]
      read += [{key: np.asarray(value).tobytes() for key, value in day.items()} for day in dataset.days(split)]
  return read


def _outcome(data_dir: pathlib.Path, name: str, file: pathlib.Path, intact: list[Any]) -> tuple[str, str]:
  try:
    return NO_EFFECT if everything(data_dir, name) == intact else UNNOTICED, ""
  except UserError as error:
    message = str(error)
    return REFUSED if str(file) in message and "\n" not in message else OBSCURE, message
  except Exception as error:  # a traceback for the user
    return OBSCURE, f"{type(error).__name__}: {error}"


def define_flags() -> None:
  """Defines the flags of this command; not on import, so that tests can import several benchmarks."""
  flags.DEFINE_integer("flips", 200, "How many bits to flip.", lower_bound=1)
  flags.DEFINE_integer("seed", 0, "Seed of the places.")
  flags.DEFINE_string("output", None, "CSV file with a row for every flip.")


if __name__ == "__main__":
  define_flags()
  app.run(main)
