"""Draws the atlas of a dataset: one HTML page, and a PNG and a CSV file for each chart.

python -m data_pipelines.atlas --data=NAME --data_dir=DIR [--output=FOLDER] [--days=N]
"""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from data_pipelines import streams
from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError
from data_pipelines.remote.objects import is_remote


def _flags() -> flags.FlagValues:
  values = flags.FlagValues()
  flags.DEFINE_string("data", None, "Name of the dataset.", flag_values=values)
  flags.DEFINE_string("data_dir", "data", "Directory that holds the datasets.", flag_values=values)
  flags.DEFINE_string(
    "output", None, "Folder to write; the default is DATA_DIR/atlas/NAME, or atlas/NAME.", flag_values=values
  )
  flags.DEFINE_integer(
    "days",
    0,
    "Number of days to read, spread evenly over the splits; 0 reads all.",
    lower_bound=0,
    flag_values=values,
  )
  return values


def _draw(values: flags.FlagValues) -> None:
  if values.data is None:
    raise flags.Error("--data is missing")
  dataset = Dataset.open(values.data_dir, values.data)
  beside = pathlib.Path("." if is_remote(values.data_dir) else values.data_dir, "atlas", values.data)
  if values.output and is_remote(values.output):
    raise flags.Error(f"--output={values.output}: expected a folder on this machine")
  output = pathlib.Path(values.output or beside).expanduser()
  from data_pipelines.atlas import page  # loads matplotlib, which takes a second: only once the flags are right

  try:
    output.mkdir(parents=True, exist_ok=True)  # fail before reading the days
    written = page.write(dataset, output, values.days)
  except OSError as error:
    raise DatasetError(f"{output}: cannot be written: {error.strerror}") from None
  print(written)


def main(argv: Sequence[str]) -> int:
  """Runs the command line and returns its exit code."""
  return streams.exit_code(functools.partial(_main, argv))


def _main(argv: Sequence[str]) -> None:
  values = _flags()
  if any(argument in ("-h", "--help") for argument in argv[1:]):
    print(__doc__, values.get_help(), sep="\n")
    return
  rest = values(argv)
  if len(rest) > 1:
    raise flags.Error(f"unexpected argument {rest[1]!r}")
  _draw(values)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
