"""Flips single bits in the files of a checkpoint and sees whether anyone who reads it notices.

  python -m benchmarks.damage --flips=200 --output=benchmarks/results/damage.csv

Each flip hits a random bit of all files of a copy of a real checkpoint, optimiser included, which is then read as
`aim.load` reads it and as a resumed run does. "refused": one line that names it (a resumed run sets it aside and takes
the older checkpoint); "no effect": everything read is equal to the bit; "unnoticed": neither, which fails.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import io
import pathlib
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags
from tqdm import tqdm

from aim import commands
from aim.common import config_files
from aim.common.tables import write_rows
from aim.runtime import sharding
from aim.training import checkpoint
from aim.training.checkpoint_metadata import CheckpointError
from aim.training.pretrain import TrainingRun
from benchmarks.programs import TINY_RUN

SMALL = TINY_RUN | {"total_steps": 4, "checkpoint.every_steps": 2}  # a run of seconds


@dataclasses.dataclass(frozen=True)
class Flip:
  """One flip.

  Attributes:
    flip: its number, from 1.
    file: that was hit, below the checkpoint's folder.
    byte: place in the file.
    bit: place in the byte.
    load: what aim.load made of it: "refused", "no effect" or "unnoticed".
    resume: what a resumed run made of it.
    line: the first line that was printed or raised.
  """

  flip: int
  file: str
  byte: int
  bit: int
  load: str
  resume: str
  line: str


def main(argv: Sequence[str]) -> None:
  checkpoint.hide_orbax_noise()
  with tempfile.TemporaryDirectory() as folder:
    changes = SMALL | {"data.dir": f"{folder}/data"}
    config = config_files.resolve("lsm2_tiny", [f"--config.{key}={value}" for key, value in changes.items()])
    workdir = pathlib.Path(folder, "run")
    workdir.mkdir()
    with jax.set_mesh(sharding.make_mesh(**config.mesh)):
      run = TrainingRun(config, workdir, commands.open_dataset(config))
      run.run()
      flips = list(
        tqdm(trial(run, flags.FLAGS.flips, flags.FLAGS.seed), "flips", flags.FLAGS.flips, unit="flip", disable=None)
      )
  if flags.FLAGS.output:
    columns = [field.name for field in dataclasses.fields(Flip)]
    write_rows(flags.FLAGS.output, columns, [dataclasses.astuple(flip) for flip in flips])
  for reader in ("load", "resume"):
    counts = collections.Counter(getattr(flip, reader) for flip in flips)
    print(f"{reader}: {', '.join(f'{count} {outcome}' for outcome, count in sorted(counts.items()))}")
  unnoticed = [flip for flip in flips if "unnoticed" in (flip.load, flip.resume)]
  if unnoticed:
    raise SystemExit(f"unnoticed: {unnoticed}")


def trial(run: TrainingRun, count: int, seed: int) -> Iterator[Flip]:
  """Flips `count` random bits of the newest checkpoint of a finished run, which has an older one, one at a time."""
  newest = checkpoint.complete_steps(run.workdir)[-1]
  folder = pathlib.Path(checkpoint.checkpoint_folder(run.workdir))
  copy = folder / str(newest)
  files = sorted(path for path in copy.rglob("*") if path.is_file())
  sizes = [path.stat().st_size for path in files]
  load, resume = functools.partial(_read, copy), functools.partial(_resumed, run)
  loaded, resumed = load(), resume()
  chance = random.Random(seed)
  for number in range(1, count + 1):
    # Any file is as likely as any other: most bytes are of the optimiser, which only a resumed run reads.
    place = chance.choice([place for place, size in enumerate(sizes) if size])
    byte, bit = chance.randrange(sizes[place]), chance.randrange(8)
    whole = shutil.copytree(copy, folder.with_name("whole"))
    try:
      flip_bit(files[place], byte, bit)
      when_loaded, line = _outcome(load, loaded)
      with contextlib.redirect_stdout(io.StringIO()) as printed:
        when_resumed, other = _outcome(resume, resumed)
      if when_resumed == "unnoticed" and f"renamed to {newest}.damaged" in printed.getvalue():
        when_resumed, other = "refused", printed.getvalue().splitlines()[0]
    finally:
      for path in folder.glob(f"{newest}*"):
        shutil.rmtree(path)
      whole.rename(copy)
    yield Flip(number, str(files[place].relative_to(copy)), byte, bit, when_loaded, when_resumed, line or other)


def flip_bit(path: pathlib.Path, byte: int, bit: int) -> None:
  """Flips one bit of a file, in place."""
  with path.open("r+b") as file:
    file.seek(byte)
    value = file.read(1)[0]
    file.seek(byte)
    file.write(bytes([value ^ 1 << bit]))


def _outcome(read: Any, expected: list[bytes]) -> tuple[str, str]:
  try:
    return ("no effect" if read() == expected else "unnoticed"), ""
  except CheckpointError as error:
    assert "\n" not in str(error), error
    return "refused", str(error)


def _read(step_path: pathlib.Path) -> list[bytes]:
  """Everything that aim.load takes from a checkpoint."""
  restored = checkpoint.read(step_path)
  facts = (restored.config.to_json(), restored.schema, restored.scale, restored.architecture, restored.training_data)
  return [repr(facts).encode(), *_bits(restored.params)]


def _resumed(run: TrainingRun) -> list[bytes]:
  """The state that a repeated run goes on from."""
  config = run.config.checkpoint
  with contextlib.closing(checkpoint.Checkpoints(run.workdir, config.every_steps, config.keep)) as checkpoints:
    return _bits(run.initial_state(checkpoints))


def _bits(tree: Any) -> list[bytes]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes() for path, leaf in leaves]


def define_flags() -> None:
  """Defines the flags of this command; not on import, so that tests can import several benchmarks."""
  flags.DEFINE_integer("flips", 200, "How many bits to flip, one at a time.", lower_bound=1)
  flags.DEFINE_integer("seed", 0, "Seed of the places.")
  flags.DEFINE_string("output", None, "CSV file with a row for every flip.")


if __name__ == "__main__":
  define_flags()
  app.run(main)
