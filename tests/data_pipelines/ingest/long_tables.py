"""Long tables for the tests of imports: heart rates and steps every five minutes, written in several file formats."""

import collections
import datetime
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines import build as build_module
from data_pipelines.dataset import Dataset

FIRST_DAY = datetime.datetime(2024, 3, 4)
HEADER = "participant,time,channel,value,unit"


def run_build(*arguments):
  """Runs data_pipelines.build in this process and returns its exit code."""
  build_module.FLAGS.unparse_flags()
  return build_module.main(["build", *(str(argument) for argument in arguments)])


def make_rows(people, days=2, step=5):
  """Rows of a long table, and the values that each day must have with 5-minute steps, by person and date."""
  rng = np.random.default_rng(0)
  rows, expected = [], {}
  for p in range(people):
    for d in range(days):
      day = FIRST_DAY + datetime.timedelta(days=d)
      values = np.full((288, 2), np.nan, np.float32)
      for s in range(288):
        if rng.random() < 0.8:
          values[s] = 50 + rng.integers(60), rng.integers(40)
          stamp = (day + datetime.timedelta(minutes=step * s)).isoformat(" ")
          rows.append((f"anna{p}", stamp, "heart_rate", f"{values[s, 0]:g}", "bpm"))
          rows.append((f"anna{p}", stamp, "steps", f"{values[s, 1]:g}", ""))
      expected[f"anna{p}", str(day.date())] = values
  return rows, expected


def to_text(rows, header=HEADER):
  """The rows as the text of a CSV file."""
  return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def dataset_values(data_dir, name="mine"):
  """The values of all days of a dataset, by person and date."""
  dataset = Dataset.open(data_dir, name)
  values = {}
  for split in ("pretrain", "tune", "eval"):
    for day in dataset.days(split) if dataset.num_days(split) else ():
      values[day["participant"].decode(), day["date"].decode()] = day["values"]
  return values


def assert_same_days(values, expected):
  """Checks that two dictionaries hold the same days with the same values."""
  assert values.keys() == expected.keys()
  for key in expected:
    np.testing.assert_array_equal(values[key], expected[key])


def write_csv(folder, rows):
  """One CSV file."""
  (folder / "study.csv").write_text(to_text(rows))
  return folder / "study.csv"


def write_zip(folder, rows):
  """Two CSV files in folders of a zip, the second with a byte order mark."""
  half = len(rows) // 2
  with zipfile.ZipFile(folder / "study.zip", "w", zipfile.ZIP_DEFLATED) as packed:
    packed.writestr("a/one.csv", to_text(rows[:half]))
    packed.writestr("b/two.csv", "\N{BYTE ORDER MARK}" + to_text(rows[half:]))
  return folder / "study.zip"


def write_parquet(folder, rows):
  """A Parquet file with timestamps and numbers."""
  columns = dict(zip(HEADER.split(","), zip(*rows, strict=True), strict=True))
  columns["time"] = pa.array([datetime.datetime.fromisoformat(t) for t in columns["time"]], pa.timestamp("us"))
  columns["value"] = pa.array([float(value) for value in columns["value"]])
  pq.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), folder / "study.parquet")
  return folder / "study.parquet"


def write_wide(folder, rows):
  """A wide CSV with one column per channel, latest rows first."""
  wide = collections.defaultdict(dict)
  for who, stamp, channel, value, _ in rows:
    wide[who, stamp][channel] = value
  lines = [(*key, fields.get("heart_rate", ""), fields.get("steps", "")) for key, fields in reversed(wide.items())]
  (folder / "wide.csv").write_text(to_text(lines, "participant,time,heart_rate,steps"))
  return folder


def write_exports(folder, rows):
  """A folder with one export per person, whose files do not say whose they are."""
  for who in {row[0] for row in rows}:
    (folder / "all" / who).mkdir(parents=True)
    own = [row[1:] for row in rows if row[0] == who]
    (folder / "all" / who / "data.csv").write_text(to_text(own, HEADER.removeprefix("participant,")))
  return folder / "all"


def write_epochs(folder, rows):
  """A CSV with times in UTC seconds. UTC was an hour behind the wall clock of Berlin on these days."""
  seconds = lambda t: datetime.datetime.fromisoformat(t + "+01:00").timestamp()
  (folder / "epochs.csv").write_text(to_text([(who, f"{seconds(t):.0f}", *rest) for who, t, *rest in rows]))
  return folder / "epochs.csv"
