"""The atlas: every number of its charts against numpy over all days, and its page as a browser displays it.

The tests share one file so that each of the three atlases is drawn only once.
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from data_pipelines.atlas import day_chart, gaps, page
from data_pipelines.atlas.__main__ import main
from data_pipelines.atlas.counts import CAUSES, THRESHOLDS
from data_pipelines.build import build
from data_pipelines.dataset import Dataset
from data_pipelines.npz import NpzSource
from data_pipelines.page import chart, document
from data_pipelines.page.blocks import Section
from data_pipelines.schema import Channel, Schema
from data_pipelines.simulator.simulation import Simulation
from data_pipelines.source import Day, Person
from data_pipelines.splits import SPLITS, ListSplit
from data_pipelines.statistics import Statistics
from tests import tiny
from tests.browser import Outline, browse, faults

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def causes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
  """Simulated people with causes, dates and labels; every split has some of them."""
  source = Simulation(participants=9, days=2, seed=3)
  people = source.participants
  split = ListSplit(tuple(people[:5]), tuple(people[5:7]), tuple(people[7:]))
  return build(source, tmp_path_factory.mktemp("causes"), "sim", split=split)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
  """Steps of an hour, no causes, one label of one person, an empty split, and a channel name that contains HTML."""
  folder = tmp_path_factory.mktemp("plain")
  return tiny.dataset(folder, channels=("pulse", HOSTILE, "asleep"))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
  """One complete channel with steps of two hours and no unit or sensor; no labels, no dates."""
  return build(OneChannel(), tmp_path_factory.mktemp("single"), "one", split=ListSplit(("a", "b"), (), ()))


class OneChannel:
  """A `Source` of two people with one day each."""

  schema = Schema(120, (Channel("x"),))
  participants = ("a", "b")
  n_days = 2

  def person(self, participant: str) -> Person:
    values = np.random.default_rng(ord(participant)).normal(size=(12, 1)).astype(np.float32)
    return Person(participant, [Day(values, participant, 0)], {})


@pytest.fixture(scope="module")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Dataset], pathlib.Path]:
  """A function that draws the atlas of a dataset, unless it is drawn already, and returns its folder."""
  folders: dict[str, pathlib.Path] = {}

  def write(name: str, dataset: Dataset) -> pathlib.Path:
    if name in folders:
      return folders[name]
    folder = folders[name] = tmp_path_factory.mktemp(name)
    flags = [f"--data={dataset.name}", f"--data_dir={dataset.path.parents[2]}", f"--output={folder}"]
    assert main(["atlas", *flags]) == 0
    return folder

  return write


@pytest.fixture(scope="module", params=["causes", "plain", "single"])
def drawn_atlas(
  request: pytest.FixtureRequest, draw: Callable[[str, Dataset], pathlib.Path]
) -> tuple[Dataset, Whole, pathlib.Path]:
  """A dataset, all of its days in memory, and the folder that its atlas is in."""
  dataset = request.getfixturevalue(request.param)
  return dataset, Whole(dataset), draw(request.param, dataset)


class Whole:
  """All days of a dataset as arrays."""

  def __init__(self, dataset: Dataset):
    stored = [(split, day) for split in SPLITS if dataset.num_days(split) for day in dataset.days(split)]
    self.split = np.array([split for split, _ in stored])
    self.days = [day for _, day in stored]
    self.values = np.stack([day["values"] for day in self.days])
    self.person = np.array([day["participant"].decode() for day in self.days])
    self.missing = np.isnan(self.values)
    self.cause = np.stack([day.get("cause", np.zeros(self.missing.shape[1:])) for day in self.days])
    self.share = self.missing.mean(axis=(1, 2))


def table(folder: pathlib.Path, name: str) -> list[dict[str, str]]:
  """The CSV of a chart, row by row."""
  with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


def numbers(rows: Sequence[Mapping[str, str]], *columns: str) -> np.ndarray:
  """float64 [rows, columns]: some columns of a table, NaN where empty."""
  return np.array([[float(row[column] or "nan") for column in columns] for row in rows])


def test_missing_share_of_channels_hours_and_causes(drawn_atlas):
  dataset, whole, folder = drawn_atlas
  rows = table(folder, "missing-channels")
  assert [row["channel"] for row in rows] == list(dataset.schema.names)
  assert np.allclose(numbers(rows, "missing %")[:, 0], 100 * whole.missing.mean(axis=(0, 1)), atol=0.006)
  for k, cause in enumerate(CAUSES):
    share = 100 * (whole.missing & (whole.cause == k)).mean(axis=(0, 1))
    assert (f"{cause} %" in rows[0]) == share.any()
    if share.any():
      assert np.allclose(numbers(rows, f"{cause} %")[:, 0], share, atol=0.006)
  rows = table(folder, "missing-hours")
  hours = [int(column.removesuffix(" h")) for column in list(rows[0])[1:]]
  clock = np.arange(dataset.schema.steps) * dataset.schema.minutes_per_step / 60
  for at, until in zip(hours, [*hours[1:], 24], strict=True):
    share = 100 * whole.missing[:, (clock >= at) & (clock < until)].mean(axis=(0, 1))
    assert np.allclose(numbers(rows, f"{at} h")[:, 0], share, atol=0.006)


def test_missing_share_of_people(drawn_atlas):
  dataset, whole, folder = drawn_atlas
  rows = table(folder, "missing-people")
  assert sorted(row["participant"] for row in rows) == sorted(set(whole.person))
  shares = numbers(rows, "missing %")[:, 0]
  assert (np.diff(shares) >= 0).all()
  for row in rows:
    of_person = whole.person == row["participant"]
    assert int(row["days"]) == of_person.sum() and set(whole.split[of_person]) == {row["split"]}
    assert float(row["missing %"]) == pytest.approx(100 * whole.missing[of_person].mean(), abs=0.006)
    for c, channel in enumerate(dataset.schema.names):
      assert float(row[f"{channel} %"]) == pytest.approx(100 * whole.missing[of_person, :, c].mean(), abs=0.006)


def test_channels_missing_together(drawn_atlas):
  dataset, whole, folder = drawn_atlas
  names = dataset.schema.names
  shares = numbers(table(folder, "missing-together"), *names)
  for a in range(len(names)):
    for b in range(len(names)):
      steps = whole.missing[..., a]
      if steps.any():
        assert shares[a, b] == pytest.approx(100 * whole.missing[..., b][steps].mean(), abs=0.006)
      else:
        assert np.isnan(shares[a, b])


def test_gap_lengths(drawn_atlas):
  dataset, whole, folder = drawn_atlas
  minutes = dataset.schema.minutes_per_step
  bounds = [0, *gaps.LENGTHS]
  names = gaps.bin_names(minutes)
  rows = table(folder, "gap-channels")
  total = np.zeros(len(gaps.LENGTHS), int)
  for c, channel in enumerate(dataset.schema.names):
    lengths = np.array([len(gap) for day in whole.missing for gap in _gaps(day[:, c])], int) * minutes
    row_of = {row["length up to"]: row for row in rows if row["channel"] == channel}
    assert list(row_of) == list(names.values())
    for i, label in names.items():
      inside = (lengths > bounds[i]) & (lengths <= bounds[i + 1])
      total[i] += inside.sum()
      assert int(row_of[label]["gaps"]) == inside.sum()
      assert int(row_of[label]["missing steps"]) * minutes == lengths[inside].sum()
      share = 100 * lengths[inside].sum() / max(lengths.sum(), 1)
      assert float(row_of[label]["% of its missing time"]) == pytest.approx(share, abs=0.006)
  assert numbers(table(folder, "gap-lengths"), "gaps")[:, 0].tolist() == [total[i] for i in names]


def _gaps(missing: np.ndarray) -> list[str]:
  """The runs of True, one text each."""
  return "".join("x" if step else " " for step in missing).split()


def test_days_that_remain_at_each_threshold(drawn_atlas):
  dataset, whole, folder = drawn_atlas
  rows = table(folder, "missing-thresholds")
  for row, threshold in zip(rows, THRESHOLDS, strict=True):
    remaining = whole.share <= threshold
    assert float(row["missing up to %"]) == round(100 * threshold)
    assert int(row["days"]) == remaining.sum() and int(row["people with a day"]) == len(set(whole.person[remaining]))
    for split in set(whole.split):
      days = int(row[f"{split} days"])
      assert days == (remaining & (whole.split == split)).sum()
      if days:
        assert days == len(dataset.days_within(split, float(threshold)))  # those that a training run would use


def test_value_ranges(drawn_atlas):
  dataset, whole, folder = drawn_atlas
  statistics = dataset.statistics
  rows = table(folder, "values-ranges")
  for c, (row, channel) in enumerate(zip(rows, dataset.schema.channels, strict=True)):
    observed = whole.values[..., c][~whole.missing[..., c]]
    z = (observed - statistics.mean[c]) / statistics.std[c]
    assert int(row["values"]) == observed.size and row["channel"] == channel.name
    assert float(row["smallest"]) == pytest.approx(observed.min(), rel=1e-5)
    assert float(row["largest"]) == pytest.approx(observed.max(), rel=1e-5)
    assert float(row["at the smallest value %"]) == pytest.approx(100 * (observed == observed.min()).mean(), abs=6e-4)
    assert float(row["at the largest value %"]) == pytest.approx(100 * (observed == observed.max()).mean(), abs=6e-4)
    binary = channel.kind == "binary"
    assert float(row["below the clip %"]) == pytest.approx(0 if binary else 100 * (z < -channel.clip).mean(), abs=6e-4)
    assert float(row["above the clip %"]) == pytest.approx(0 if binary else 100 * (z > channel.clip).mean(), abs=6e-4)
    for name, share in (("1 %", 0.01), ("median", 0.5), ("99 %", 0.99)):
      if binary:
        assert row[name] == ""
        continue
      bin_width = 2 * channel.clip / 400 * statistics.std[c]
      expected = np.quantile(np.clip(observed, *bounds(statistics, c, channel.clip)), share, method="inverted_cdf")
      assert float(row[name]) == pytest.approx(expected, abs=bin_width + 1e-3 * abs(expected))


def bounds(statistics: Statistics, c: int, clip: float) -> tuple[float, float]:
  """The clip of channel c in its own unit."""
  return tuple(statistics.mean[c] + sign * clip * statistics.std[c] for sign in (-1, 1))


def test_splits_and_weekdays(drawn_atlas):
  _, whole, folder = drawn_atlas
  for row, split in zip(table(folder, "balance-splits"), SPLITS, strict=True):
    of_split = whole.split == split
    assert row["split"] == split and int(row["people"]) == len(set(whole.person[of_split]))
    assert int(row["days"]) == of_split.sum()
    if of_split.any():
      assert float(row["missing %"]) == pytest.approx(100 * whole.missing[of_split].mean(), abs=0.006)
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


def test_labels_of_splits(causes, draw):
  frame = causes.participants().to_pandas()
  rows = {row["label"]: row for row in table(draw("causes", causes), "balance-labels")}
  age, woman = frame["age"].astype(float), (frame["sex"] == "F").astype(float)
  [sex] = [row for label, row in rows.items() if label.startswith("sex = ")]
  woman = woman if sex["label"] == "sex = F" else 1 - woman
  for row, values in ((rows["age"], age), (sex, woman)):
    assert float(row["mean"]) == pytest.approx(values.mean(), rel=0.01)
    for split in SPLITS:
      members = values[frame["split"] == split]
      assert int(row[f"{split} people"]) == len(members)
      distance = (members.mean() - values.mean()) / values.std(ddof=0)
      drawn_distance = float(row[f"{split} distance, SDs"].replace("−", "-"))
      assert drawn_distance == pytest.approx(distance, rel=0.01, abs=1e-3)


def test_a_day_hour_by_hour(drawn_atlas):
  dataset, whole, folder = drawn_atlas
  title = day_chart.choose_days(dataset, SPLITS, page.DRAWN_DAYS)[-1][0]
  [day] = [d for d in whole.days if title.startswith(f"participant {d['participant'].decode()}, day {d['day']}:")]
  last = sorted(folder.glob("day-*.csv"))[-2 if len(list(folder.glob("day-*.csv"))) > 1 else 0]
  hour = np.arange(dataset.schema.steps) * dataset.schema.minutes_per_step // 60
  for row in table(folder, last.stem):
    values = day["values"][hour == int(row["hour"]), dataset.schema.index(row["channel"])]
    assert int(row["minutes missing"]) == np.isnan(values).sum() * dataset.schema.minutes_per_step
    assert (row["causes"] == "") == (not np.isnan(values).any())
    if not np.isnan(values).all():
      assert float(row["mean"]) == pytest.approx(np.nanmean(values), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
  ("name", "width", "dark"), [("causes", 390, True), ("causes", 1280, False), ("single", 390, False)]
)
def test_the_page_in_a_browser(request, draw, tmp_path, name, width, dark):
  folder = draw(name, request.getfixturevalue(name))
  rendered = browse(tmp_path / "page.html", (folder / "index.html").read_text(), width, dark)
  assert not faults(rendered)
  assert rendered.width == width and rendered.shown >= 11


def test_every_chart_has_its_numbers_and_files(drawn_atlas):
  _, _, folder = drawn_atlas
  outline = Outline((folder / "index.html").read_text())
  names = [figure["id"] for figure in outline.figures]
  assert len(names) == len(set(names))
  for suffix in ("csv", "png"):
    assert {path.stem for path in folder.glob(f"*.{suffix}")} == set(names)
  assert all(figure["cells"] > 1 and len(figure["svg"]) == 1 for figure in outline.figures)


def test_absent_parts_are_reported(plain, single, draw):
  text = (draw("plain", plain) / "index.html").read_text()
  assert HOSTILE not in text and "&lt;script&gt;alert(1)" in text
  assert "There is no account of an import" in text and (draw("plain", plain) / "balance-labels.csv").exists()
  assert "The people of this dataset have no labels." in (draw("single", single) / "index.html").read_text()


def test_charts_of_an_earlier_page_are_removed_and_other_files_stay(tmp_path):
  def written(*names: str) -> set[str]:
    with chart.style():
      charts = [chart.Chart(name, "t", "a", chart.panels(1.0)[0], ["x"], [[1]]) for name in names]
      document.write([Section("s", "S", charts)], "t", "atlas", tmp_path)
    return {path.name for path in tmp_path.iterdir()} - {"index.html"}

  assert written("a", "b") == {"a.csv", "a.png", "b.csv", "b.png"}
  (tmp_path / "mine.csv").write_text("1\n")
  assert written("b") == {"mine.csv", "b.csv", "b.png"}


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
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and message in printed and printed.count("\n") == 1
  assert main(["atlas", "--help"]) == 0 and "--data_dir" in capsys.readouterr().out
  assert NpzSource(data_dir.parent / "tiny.npz").n_days == sum(plain.num_days(split) for split in SPLITS)
