"""The atlas: every number checked against numpy over all days, and the page against a browser."""

import csv
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data_pipelines.atlas import day_chart, gaps, import_account, page
from data_pipelines.atlas.__main__ import main
from data_pipelines.atlas.counts import CAUSES, THRESHOLDS, count_missing
from data_pipelines.atlas.value_ranges import ValueRanges
from data_pipelines.build import build
from data_pipelines.build import main as build_main
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.npz import NpzSource
from data_pipelines.page import chart, document
from data_pipelines.page.blocks import Section
from data_pipelines.schema import Channel, Schema
from data_pipelines.simulator import Simulation
from data_pipelines.source import Day, Person
from data_pipelines.splits import SPLITS, ListSplit
from data_pipelines.statistics import Statistics
from tests import tiny
from tests.browser import Outline, browse, faults

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def causes(tmp_path_factory) -> Dataset:
  """Simulated people, with causes, dates and labels; some in every split."""
  source = Simulation(participants=9, days=2, seed=3)
  people = source.participants
  split = ListSplit(tuple(people[:5]), tuple(people[5:7]), tuple(people[7:]))
  return build(source, tmp_path_factory.mktemp("causes"), "sim", split=split)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Dataset:
  """Hours, no causes, one label of one person, nobody in tune, a channel's name that tries to break out."""
  folder = tmp_path_factory.mktemp("plain")
  return tiny.dataset(folder, channels=("pulse", HOSTILE, "asleep"))


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Dataset:
  """One channel of two-hour steps without unit, sensor or labels, never missing; days without dates."""
  return build(One(), tmp_path_factory.mktemp("single"), "one", split=ListSplit(("a", "b"), (), ()))


class One:
  schema = Schema(120, (Channel("x"),))
  participants = ("a", "b")
  n_days = 2

  def person(self, participant: str) -> Person:
    values = np.random.default_rng(ord(participant)).normal(size=(12, 1)).astype(np.float32)
    return Person(participant, [Day(values, participant, 0)], {})


@pytest.fixture(scope="module", params=["causes", "plain", "single"])
def made(request, drawn):
  """A dataset, all of it in memory, and the folder that its atlas is in."""
  dataset = request.getfixturevalue(request.param)
  return dataset, Whole(dataset), drawn(request.param, dataset)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
  """A function of a dataset's name and the dataset: the folder of its atlas, written by the command line once."""

  folders: dict[str, pathlib.Path] = {}

  def write(name: str, dataset: Dataset) -> pathlib.Path:
    if name in folders:
      return folders[name]
    folder = folders[name] = tmp_path_factory.mktemp(name)
    flags = [f"--data={dataset.name}", f"--data_dir={dataset.path.parents[2]}", f"--output={folder}"]
    assert main(["atlas", *flags]) == 0
    return folder

  return write


class Whole:
  """All days of a dataset as arrays."""

  def __init__(self, dataset: Dataset):
    there = [(split, day) for split in SPLITS if dataset.num_days(split) for day in dataset.days(split)]
    self.split = np.array([split for split, _ in there])
    self.days = [day for _, day in there]
    self.values = np.stack([day["values"] for day in self.days])
    self.person = np.array([day["participant"].decode() for day in self.days])
    self.hole = np.isnan(self.values)
    self.cause = np.stack([day.get("cause", np.zeros(self.hole.shape[1:])) for day in self.days])
    self.share = self.hole.mean(axis=(1, 2))


def table(folder: pathlib.Path, name: str) -> list[dict[str, str]]:
  with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


def numbers(rows, *columns) -> np.ndarray:
  return np.array([[float(row[column] or "nan") for column in columns] for row in rows])


# ----- the numbers


def test_missing_share_of_channels_hours_and_causes(made):
  dataset, whole, folder = made
  rows = table(folder, "missing-channels")
  assert [row["channel"] for row in rows] == list(dataset.schema.names)
  assert np.allclose(numbers(rows, "missing %")[:, 0], 100 * whole.hole.mean(axis=(0, 1)), atol=0.006)
  for k, cause in enumerate(CAUSES):
    share = 100 * (whole.hole & (whole.cause == k)).mean(axis=(0, 1))
    assert (f"{cause} %" in rows[0]) == share.any()
    if share.any():
      assert np.allclose(numbers(rows, f"{cause} %")[:, 0], share, atol=0.006)
  rows = table(folder, "missing-hours")
  hours = [int(column.removesuffix(" h")) for column in list(rows[0])[1:]]
  clock = np.arange(dataset.schema.steps) * dataset.schema.minutes_per_step / 60
  for at, until in zip(hours, [*hours[1:], 24], strict=True):
    share = 100 * whole.hole[:, (clock >= at) & (clock < until)].mean(axis=(0, 1))
    assert np.allclose(numbers(rows, f"{at} h")[:, 0], share, atol=0.006)


def test_missing_share_of_people(made):
  dataset, whole, folder = made
  rows = table(folder, "missing-people")
  assert sorted(row["participant"] for row in rows) == sorted(set(whole.person))
  shares = numbers(rows, "missing %")[:, 0]
  assert (np.diff(shares) >= 0).all()
  for row in rows:
    mine = whole.person == row["participant"]
    assert int(row["days"]) == mine.sum() and set(whole.split[mine]) == {row["split"]}
    assert float(row["missing %"]) == pytest.approx(100 * whole.hole[mine].mean(), abs=0.006)
    for c, channel in enumerate(dataset.schema.names):
      assert float(row[f"{channel} %"]) == pytest.approx(100 * whole.hole[mine, :, c].mean(), abs=0.006)


def test_channels_missing_together(made):
  dataset, whole, folder = made
  names = dataset.schema.names
  found = numbers(table(folder, "missing-together"), *names)
  for a in range(len(names)):
    for b in range(len(names)):
      alone = whole.hole[..., a]
      if alone.any():
        assert found[a, b] == pytest.approx(100 * whole.hole[..., b][alone].mean(), abs=0.006)
      else:
        assert np.isnan(found[a, b])


def test_gap_lengths(made):
  dataset, whole, folder = made
  minutes = dataset.schema.minutes_per_step
  bounds = [0, *gaps.LENGTHS]
  names = gaps.bin_names(minutes)
  rows = table(folder, "gap-channels")
  total = np.zeros(len(gaps.LENGTHS), int)
  for c, channel in enumerate(dataset.schema.names):
    lengths = np.array([len(gap) for day in whole.hole for gap in _gaps(day[:, c])], int) * minutes
    mine = {row["length up to"]: row for row in rows if row["channel"] == channel}
    assert list(mine) == list(names.values())
    for i, label in names.items():
      inside = (lengths > bounds[i]) & (lengths <= bounds[i + 1])
      total[i] += inside.sum()
      assert int(mine[label]["gaps"]) == inside.sum()
      assert int(mine[label]["missing steps"]) * minutes == lengths[inside].sum()
      share = 100 * lengths[inside].sum() / max(lengths.sum(), 1)
      assert float(mine[label]["% of its missing time"]) == pytest.approx(share, abs=0.006)
  assert numbers(table(folder, "gap-lengths"), "gaps")[:, 0].tolist() == [total[i] for i in names]


def _gaps(cells: np.ndarray) -> list[str]:
  return "".join("x" if cell else " " for cell in cells).split()


def test_days_kept_at_each_threshold(made):
  dataset, whole, folder = made
  rows = table(folder, "missing-thresholds")
  for row, most in zip(rows, THRESHOLDS, strict=True):
    kept = whole.share <= most
    assert float(row["missing up to %"]) == round(100 * most)
    assert int(row["days"]) == kept.sum() and int(row["people with a day"]) == len(set(whole.person[kept]))
    for split in set(whole.split):
      mine = int(row[f"{split} days"])
      assert mine == (kept & (whole.split == split)).sum()
      if mine:
        assert mine == len(dataset.days_within(split, float(most)))  # what a training run would take


def test_value_ranges(made):
  dataset, whole, folder = made
  statistics = dataset.statistics
  rows = table(folder, "values-ranges")
  for c, (row, channel) in enumerate(zip(rows, dataset.schema.channels, strict=True)):
    seen = whole.values[..., c][~whole.hole[..., c]]
    z = (seen - statistics.mean[c]) / statistics.std[c]
    assert int(row["values"]) == seen.size and row["channel"] == channel.name
    assert float(row["smallest"]) == pytest.approx(seen.min(), rel=1e-5)
    assert float(row["largest"]) == pytest.approx(seen.max(), rel=1e-5)
    assert float(row["at the smallest value %"]) == pytest.approx(100 * (seen == seen.min()).mean(), abs=6e-4)
    assert float(row["at the largest value %"]) == pytest.approx(100 * (seen == seen.max()).mean(), abs=6e-4)
    binary = channel.kind == "binary"
    assert float(row["below the clip %"]) == pytest.approx(0 if binary else 100 * (z < -channel.clip).mean(), abs=6e-4)
    assert float(row["above the clip %"]) == pytest.approx(0 if binary else 100 * (z > channel.clip).mean(), abs=6e-4)
    for name, share in (("1 %", 0.01), ("median", 0.5), ("99 %", 0.99)):
      if binary:
        assert row[name] == ""
        continue
      bin_width = 2 * channel.clip / 400 * statistics.std[c]
      expected = np.quantile(np.clip(seen, *bounds(statistics, c, channel.clip)), share, method="inverted_cdf")
      assert float(row[name]) == pytest.approx(expected, abs=bin_width + 1e-3 * abs(expected))


def bounds(statistics: Statistics, c: int, clip: float) -> tuple[float, float]:
  return tuple(statistics.mean[c] + sign * clip * statistics.std[c] for sign in (-1, 1))


def test_splits_and_weekdays(made):
  _, whole, folder = made
  for row, split in zip(table(folder, "balance-splits"), SPLITS, strict=True):
    mine = whole.split == split
    assert row["split"] == split and int(row["people"]) == len(set(whole.person[mine]))
    assert int(row["days"]) == mine.sum()
    if mine.any():
      assert float(row["missing %"]) == pytest.approx(100 * whole.hole[mine].mean(), abs=0.006)
    else:
      assert row["missing %"] == row["days per person"] == ""
  weekday = np.array([day["weekday"] for day in whole.days]) % 8
  rows = table(folder, "balance-weekdays")
  assert [row["weekday"] for row in rows[:7]] == [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
  ]
  assert sum(int(row["days"]) for row in rows) == len(whole.days)
  assert (rows[-1]["weekday"] == "unknown") == (weekday == 7).any()
  for d, row in enumerate(rows):
    assert int(row["days"]) == (weekday == d).sum()
    assert [int(row[f"{s} days"]) for s in SPLITS] == [((weekday == d) & (whole.split == s)).sum() for s in SPLITS]
    if int(row["days"]):
      assert float(row["missing %"]) == pytest.approx(100 * whole.share[weekday == d].mean(), abs=0.006)


def test_labels_of_splits(causes, drawn):
  frame = causes.participants().to_pandas()
  rows = {row["label"]: row for row in table(drawn("causes", causes), "balance-labels")}
  age, woman = frame["age"].astype(float), (frame["sex"] == "F").astype(float)
  [sex] = [row for label, row in rows.items() if label.startswith("sex = ")]
  woman = woman if sex["label"] == "sex = F" else 1 - woman
  for row, values in ((rows["age"], age), (sex, woman)):
    assert float(row["mean"]) == pytest.approx(values.mean(), rel=0.01)
    for split in SPLITS:
      mine = values[frame["split"] == split]
      assert int(row[f"{split} people"]) == len(mine)
      distance = (mine.mean() - values.mean()) / values.std(ddof=0)
      found = float(row[f"{split} distance, SDs"].replace("−", "-"))
      assert found == pytest.approx(distance, rel=0.01, abs=1e-3)


def test_a_day_hour_by_hour(made):
  dataset, whole, folder = made
  title = day_chart.choose_days(dataset, SPLITS, page.DRAWN_DAYS)[-1][0]
  [day] = [d for d in whole.days if title.startswith(f"participant {d['participant'].decode()}, day {d['day']}:")]
  last = sorted(folder.glob("day-*.csv"))[-2 if len(list(folder.glob("day-*.csv"))) > 1 else 0]
  hour = np.arange(dataset.schema.steps) * dataset.schema.minutes_per_step // 60
  for row in table(folder, last.stem):
    now = day["values"][hour == int(row["hour"]), dataset.schema.index(row["channel"])]
    assert int(row["minutes missing"]) == np.isnan(now).sum() * dataset.schema.minutes_per_step
    assert (row["causes"] == "") == (not np.isnan(now).any())
    if not np.isnan(now).all():
      assert float(row["mean"]) == pytest.approx(np.nanmean(now), rel=1e-3, abs=1e-6)


@given(st.lists(st.booleans(), max_size=40))
def test_runs_are_the_gaps(cells):
  found = gaps.runs(np.array(cells, bool))
  rebuilt = np.zeros(len(cells), bool)
  for start, end in found:
    assert not rebuilt[max(start - 1, 0) : end].any()
    rebuilt[start:end] = True
  assert rebuilt.tolist() == cells


@given(arrays.arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)))
def test_lengths_are_those_of_the_runs(hole):
  expected = sorted(
    (c, end - start) for day in hole for c in range(hole.shape[2]) for start, end in gaps.runs(day[:, c])
  )
  assert sorted(zip(*map(np.ndarray.tolist, gaps.lengths(hole)), strict=True)) == expected


@given(st.lists(st.lists(st.sampled_from([-9.0, -1.0, 0.0, 2.0, 9.0, np.nan]), min_size=3, max_size=3), min_size=1))
def test_ranges_are_the_same_in_any_blocks(rows):
  values = np.array(rows, np.float32)[:, :, None]
  flat = np.array([0.0])
  statistics = Statistics(("x",), flat, flat, flat + 1, flat, flat, flat, flat)
  schema = Schema(480, (Channel("x"),))
  whole, parts = ValueRanges(schema, statistics), ValueRanges(schema, statistics)
  whole.add(values)
  for row in values:
    parts.add(row[None])
  for name in ("observed", "low", "high", "at_low", "at_high", "below", "above", "histogram"):
    assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_a_sample_is_spread_over_the_splits(causes):
  counts = count_missing(causes, 9)
  assert counts.n_days == 9 and all(counts.days[split] for split in SPLITS)
  assert count_missing(causes, 1000).n_days == 18


# ----- the page


@pytest.mark.parametrize(
  ("name", "width", "dark"), [("causes", 390, True), ("causes", 1280, False), ("single", 390, False)]
)
def test_the_page_in_a_browser(request, drawn, tmp_path, name, width, dark):
  folder = drawn(name, request.getfixturevalue(name))
  found = browse(tmp_path / "page.html", (folder / "index.html").read_text(), width, dark)
  assert not faults(found)
  assert found.width == width and found.shown >= 11


def test_every_chart_has_its_numbers_and_files(made):
  _, _, folder = made
  outline = Outline((folder / "index.html").read_text())
  names = [figure["id"] for figure in outline.figures]
  assert len(names) == len(set(names))
  for suffix in ("csv", "png"):
    assert {path.stem for path in folder.glob(f"*.{suffix}")} == set(names)
  assert all(figure["cells"] > 1 and len(figure["svg"]) == 1 for figure in outline.figures)


def test_what_is_not_there_is_told(plain, single, drawn):
  text = (drawn("plain", plain) / "index.html").read_text()
  assert HOSTILE not in text and "&lt;script&gt;alert(1)" in text
  assert "There is no account of an import" in text and (drawn("plain", plain) / "balance-labels.csv").exists()
  assert "The people of this dataset have no labels." in (drawn("single", single) / "index.html").read_text()


def test_charts_of_an_earlier_page_go_and_other_files_stay(tmp_path):
  def written(*names: str) -> set[str]:
    with chart.style():
      charts = [chart.Chart(name, "t", "a", chart.panels(1.0)[0], ["x"], [[1]]) for name in names]
      document.write([Section("s", "S", charts)], "t", "atlas", tmp_path)
    return {path.name for path in tmp_path.iterdir()} - {"index.html"}

  assert written("a", "b") == {"a.csv", "a.png", "b.csv", "b.png"}
  (tmp_path / "mine.csv").write_text("1\n")
  assert written("b") == {"mine.csv", "b.csv", "b.png"}


def imported(folder: pathlib.Path) -> Dataset:
  """A long table of one person, two values of which are beyond what its recipe allows."""
  times = [f"2024-03-0{1 + i // 24} {i % 24:02d}:00" for i in range(72)]
  values = [str(60 + i % 7) for i in range(70)] + ["999", "<b>no number</b>"]
  lines = [f"p0,{time},heart_rate,{value}" for time, value in zip(times, values, strict=True)]
  (folder / "long.csv").write_text("\n".join(["participant,time,channel,value", *lines]) + "\n")
  channel = "{name: heart_rate, unit: bpm, rule: mean, low: 20, high: 250}"
  (folder / "recipe.yaml").write_text(f"minutes_per_step: 60\nmax_missing: 0.95\nsignals:\n- {channel}\n")
  flags = ["--source=long_table", f"--input={folder}/long.csv", f"--recipe={folder}/recipe.yaml"]
  assert build_main(["build", *flags, "--timezone=UTC", f"--data_dir={folder}/data", "--name=long"]) == 0
  return Dataset.open(folder / "data", "long")


def test_the_account_and_the_bounds_of_an_import(tmp_path):
  dataset = imported(tmp_path)
  page.write(dataset, tmp_path / "atlas")
  kept, *dropped = table(tmp_path / "atlas", "account")
  assert kept["outcome"] == "kept" and kept["rows"] == "70"
  assert (
    sum(int(row["rows"]) for row in dropped) == 2
    and "72 rows of 1 people were read" in (tmp_path / "atlas" / "index.html").read_text()
  )
  [row] = table(tmp_path / "atlas", "values-ranges")
  assert (row["allowed from"], row["to"], row["smallest"], row["largest"]) == ("20", "250", "60", "66")


def test_an_account_that_is_none(tmp_path):
  dataset = tiny.dataset(tmp_path)
  (dataset.path / "account.csv").write_text("participant,rows,outcome,first\np0,many,read,\n")
  with pytest.raises(SchemaError, match=r"account.csv row 2: found 'p0,many,read,', expected participant,rows"):
    import_account.blocks(dataset, "account")


def test_the_command(plain, tmp_path, capsys):
  data_dir = plain.path.parents[2]
  assert main(["atlas", "--data=tiny", f"--data_dir={data_dir}", "--days=5"]) == 0
  printed = capsys.readouterr()
  assert printed.out == f"{data_dir / 'atlas' / 'tiny' / 'index.html'}\n" and "missingness: 100%" in printed.err
  assert "This page counts 5 of the days" in (data_dir / "atlas" / "tiny" / "index.html").read_text()
  for flags, message in (
    ([], "--data is missing"),
    (["--data=gone", f"--data_dir={data_dir}"], f"no dataset 'gone' in {data_dir}; it holds the datasets tiny"),
    (["--data=tiny", f"--data_dir={data_dir}", f"--output={plain.path / 'README.md'}"], "cannot be written"),
    (["tiny"], "unexpected argument 'tiny'"),
    (["--days=-1"], "--days=-1"),
  ):
    assert main(["atlas", *flags]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and message in told and told.count("\n") == 1
  assert main(["atlas", "--help"]) == 0 and "--data_dir" in capsys.readouterr().out
  assert NpzSource(data_dir.parent / "tiny.npz").n_days == sum(plain.num_days(split) for split in SPLITS)
