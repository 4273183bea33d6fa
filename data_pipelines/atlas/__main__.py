"""Draws the atlas of a dataset: one HTML page, and a PNG and a CSV for each chart.

python -m data_pipelines.atlas --data=NAME --data_dir=DIR [--output=FOLDER] [--days=N]
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError, UserError


def _flags() -> flags.FlagValues:
  own = flags.FlagValues()
  flags.DEFINE_string("data", None, "Name of the dataset.", flag_values=own)
  flags.DEFINE_string("data_dir", "data", "Directory of datasets.", flag_values=own)
  flags.DEFINE_string("output", None, "Folder to write; default: DATA_DIR/atlas/NAME.", flag_values=own)
  flags.DEFINE_integer("days", 0, "Days to look at, evenly over the splits; 0: all.", lower_bound=0, flag_values=own)
  return own


def _draw(given: flags.FlagValues) -> None:
  if given.data is None:
    raise flags.Error("--data is missing")
  dataset = Dataset.open(given.data_dir, given.data)
  output = pathlib.Path(given.output or pathlib.Path(given.data_dir, "atlas", given.data)).expanduser()
  from data_pipelines.atlas import page  # importing matplotlib takes a second: only once the flags are right

  try:
    output.mkdir(parents=True, exist_ok=True)  # before the days are read
    print(page.write(dataset, output, given.days))
  except OSError as error:
    raise DatasetError(f"{output}: cannot write there: {error.strerror}") from None


def main(argv: Sequence[str]) -> int:
  """Runs the command line; returns its exit code."""
  given = _flags()
  if any(argument in ("-h", "--help") for argument in argv[1:]):
    print(__doc__, given.get_help(), sep="\n")
    return 0
  try:
    rest = given(argv)
    if len(rest) > 1:
      raise flags.Error(f"unexpected argument {rest[1]!r}")
    _draw(given)
  except (flags.Error, UserError) as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv))
