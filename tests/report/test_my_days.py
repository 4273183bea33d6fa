"""An export of a watch becomes a filled, embedded, drawn page with one command."""

import dataclasses
import errno
import html
import pathlib
import re
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest

from aim.common.config_files import ConfigError
from aim.inference.pretrained import Pretrained
from aim.inference.uncertainty import BINS, Uncertainty
from aim.report.my_days import command, own_days, sections, unlike
from aim.report.my_days.filled_days import FilledDays
from data_pipelines.errors import UserError
from tests import tiny
from tests.report import my_days

SIZES = {0.5: [0.5] * len(BINS), 0.9: [2.0] * len(BINS)}
TABLE = Uncertainty({"heart_rate": SIZES, "steps": SIZES}, {0.5: 0.5, 0.9: 0.88}, {}, (5, 4), (9, 9), ("made_up",))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("model") / "watch"
  my_days.model().save(folder)
  return folder


def write(trained, output, source=None, data=None, data_dir="data", split="all", importer="auto", **more):
  paths = None if source is None else str(source), importer, "Europe/Berlin", None if data is None else str(data)
  command.write(str(trained), *paths, str(data_dir), split, str(output), **more)
  return (output if output.suffix == ".html" else output / "index.html").read_text(encoding="utf-8")


def test_one_command_fills_embeds_and_draws_an_export(trained, tmp_path):
  source = my_days.export(tmp_path / "takeout.zip", 8)
  flags = f"--checkpoint={trained}", f"--input={source}", "--timezone=Europe/Berlin"
  ended = tiny.run("--mode=report", *flags, cwd=tmp_path)
  assert ended.code == 0, ended.err
  assert "absent, so treated as missing: glucose" in ended.err
  assert ended.out.splitlines()[-1].startswith("my_days/index.html: 9 days, ")  # in Berlin the last night is a day
  folder = tmp_path / "my_days"
  assert sorted(path.name for path in tmp_path.iterdir()) == ["my_days", "takeout.zip"]
  assert sorted(path.name for path in folder.iterdir()) == ["embeddings.parquet", "filled.npz", "index.html"]

  embeddings = pq.read_table(folder / "embeddings.parquet")
  assert embeddings["date"].to_pylist()[0] == "2020-06-01" and embeddings.num_columns == 2 + 16
  with np.load(folder / "filled.npz") as filled:
    assert filled["channels"].tolist() == ["heart_rate", "steps"]
    assert not np.isnan(filled["values"]).any() and filled["filled"].any() and not filled["filled"].all()
    assert filled["filled"][1, 10, 0] or filled["filled"][1, 11, 0], "hours without heart rate are filled"
  with pytest.raises(UserError, match="filled already"):
    own_days.read(str(folder / "filled.npz"), "auto", None, 60)

  page = (folder / "index.html").read_text(encoding="utf-8")
  assert page.count("<option>2020-06-") == 9 or page.count("<option>2020-0") == 9
  assert "filled in by the model" in page and "var(--s0)" in page and "var(--cause0)" in page
  assert "absent: treated as missing" in page and "takeout.zip (importer fitbit)" in page
  assert not re.search(r'(src|href)="(?!#|data:,")', page), "the page needs nothing but itself"


def test_one_day_of_one_channel(trained, tmp_path):
  source = my_days.export(tmp_path / "one.zip", 1, steps=False)
  page = write(trained, tmp_path / "page.html", source)
  assert "cannot be told from fewer than 7 days of a person" in page
  assert "so there is no band (--mode=calibrate measures it)" in page
  assert sorted(path.name for path in tmp_path.iterdir()) == ["one.zip", "page.html"], "the page alone"


def test_many_days_without_holes_are_drawn_in_part(trained, tmp_path, monkeypatch):
  monkeypatch.setattr(sections, "MOST_DRAWN", 9)
  rng, days = np.random.default_rng(0), 60
  values = rng.normal([70, 400, 8], [12, 200, 2], (days, 24, 3)).astype(np.float32)
  values[40] += 60
  np.savez(
    tmp_path / "days.npz",
    values=values,
    channels=np.array(my_days.SCHEMA.names),
    participant=np.array(["p"] * days),
    day=np.arange(days),
    date=np.array([""] * days),
    minutes_per_step=np.int64(60),
  )
  folder = tmp_path / "out"
  page = write(trained, folder, data=tmp_path / "days.npz")
  assert "nothing: there are no holes" in page and "Nothing was missing, so nothing is filled in." in page
  assert "9 of 60 days are drawn" in page and page.count("<option>") == 9 and "<option>day 40: " in page
  assert "day 40: 0 % filled in, unlike the others" in page
  assert re.search(r"heart rate 1[23]\d bpm \(usually [67]\d", page), "what differs most"
  assert len(page.encode()) < 5e6
  with np.load(folder / "filled.npz") as filled:
    assert filled["values"].tobytes() == values.tobytes() and not filled["filled"].any()


def test_a_dataset_of_several_people(trained, tmp_path):
  dataset = tiny.dataset(tmp_path, channels=("pulse", "steps", "asleep"))
  page = write(trained, tmp_path / "page.html", data="tiny", data_dir=dataset.path.parents[2], split="eval")
  assert "of 3 people" in page and page.count("<option>p") == 6
  assert "left out: the model does not have it" in page, "pulse and asleep"


def test_days_of_another_range_are_normalised_by_themselves_on_request(trained, tmp_path):
  values = np.random.default_rng(0).normal(30, 2, (16, 24, 1)).astype(np.float32)
  values[:, 9:12] = np.nan
  dates = np.array([f"2020-06-{1 + day:02d}" for day in range(16)])
  who = {"participant": np.array(["a"] * 16), "day": np.arange(16), "date": dates}
  np.savez(tmp_path / "own.npz", values=values, channels=np.array(["glucose"]), minutes_per_step=60, **who)
  pages, filled, embeddings, printed = {}, {}, {}, {}
  for statistics in ("checkpoint", "data"):
    folder = tmp_path / statistics
    flags = f"--checkpoint={trained}", f"--input={tmp_path / 'own.npz'}", f"--output={folder}"
    ended = tiny.run("--mode=report", *flags, f"--statistics={statistics}")
    assert ended.code == 0, ended.err
    printed[statistics] = ended.err
    pages[statistics] = (folder / "index.html").read_text(encoding="utf-8")
    embeddings[statistics] = pq.read_table(folder / "embeddings.parquet")
    with np.load(folder / "filled.npz") as arrays:
      filled[statistics] = arrays["values"][:, 9:12]
  beyond = re.search(r"normalised by these days: (glucose \(9\d.* % .* training data's mean\))\n", printed["data"])[1]
  hint = "--statistics=data normalises by these days instead"
  assert f"own.npz: clipped: {beyond}; {hint}\n" in printed["checkpoint"] and hint not in printed["data"]
  assert hint in pages["checkpoint"] and "normalised by these days to be filled" not in pages["checkpoint"]
  assert hint not in pages["data"] and "normalised by these days to be filled" in pages["data"]
  assert "+7.3 SDs away" in pages["data"], "still from the training data"
  assert filled["checkpoint"].max() <= 25 < filled["data"].min(), "25 is the highest of the training data"
  assert embeddings["checkpoint"].equals(embeddings["data"])


def test_a_channel_in_another_unit_is_clipped_whatever_the_statistics(trained, tmp_path):
  values = np.random.default_rng(0).uniform(60, 180, (16, 24, 1)).astype(np.float32)  # mg/dL, undeclared
  who = {"participant": np.array(["a"] * 16), "day": np.arange(16), "date": np.array([""] * 16)}
  np.savez(tmp_path / "own.npz", values=values, channels=np.array(["glucose"]), minutes_per_step=60, **who)
  page = html.unescape(write(trained, tmp_path / "page.html", tmp_path / "own.npz", statistics="data"))
  clipped = r"Clipped: glucose \(100 % of the values are over 5 SDs from the training data's mean"
  assert re.search(rf"{clipped}; 100 % are outside 0.1 to 40 mmol/L: check the unit\)\.", page)
  assert "--statistics=data" not in page and "normalised by these days" not in page


def test_bands_are_those_of_the_table(trained, tmp_path):
  metadata = {**my_days.restored().metadata, "uncertainty": TABLE.to_dict()}
  model = Pretrained(dataclasses.replace(my_days.restored(), metadata=metadata))
  model.save(tmp_path / "model")
  folder = tmp_path / "out"
  page = write(tmp_path / "model", folder, my_days.export(tmp_path / "takeout.zip", 2))
  assert TABLE.text() in page and "holds 90 % of such values" in page and "90 % from" in page
  with np.load(folder / "filled.npz") as filled:
    hole = filled["filled"][:, :, 0]
    low, high = (filled[f"{name}_90"][:, :, 0] for name in ("low", "high"))
    assert (low[hole] < filled["values"][:, :, 0][hole]).all() and (high - low)[~hole].max() == 0
    assert np.allclose((high - filled["values"][:, :, 0])[hole], 2 * 12, rtol=1e-3)


def test_the_page_says_where_bands_are_too_narrow():
  model = mock.Mock(Pretrained, uncertainty=TABLE, context_days=2)
  made = mock.Mock(FilledDays, beside=np.array([True, False]), normalised=())
  assert "They are too narrow for 1 day without other days of the person" in sections.how_sure(model, made)
  model.uncertainty = dataclasses.replace(TABLE, alone=TABLE)
  assert "too narrow" not in sections.how_sure(model, made)
  made.normalised = ("glucose",)
  assert "For glucose, normalised by these days, that was not measured." in sections.how_sure(model, made)


def test_files_of_two_people_are_never_in_one_folder(trained, tmp_path, monkeypatch):
  folder = tmp_path / "out"
  for who, people in (("a", 1), ("b", 2)):
    np.savez(tmp_path / f"{who}.npz", **tiny.arrays(people, 1, channels=("heart_rate", "steps", "glucose")))
  contents = lambda: {path.name: path.read_bytes() for path in folder.iterdir()}
  write(trained, folder, tmp_path / "a.npz")
  (folder / "notes.txt").write_text("mine")
  before = contents()

  original = pathlib.Path.write_text

  def full_disk(path, *arguments, **keywords):
    if path.name.startswith("index.html"):
      raise OSError(errno.ENOSPC, "No space left on device")
    return original(path, *arguments, **keywords)

  monkeypatch.setattr(pathlib.Path, "write_text", full_disk)
  with pytest.raises(ConfigError, match=f"--output={folder}: cannot be written: No space left on device"):
    write(trained, folder, tmp_path / "b.npz")
  assert contents() == before


def test_errors_are_one_line(trained, tmp_path):
  def error(*arguments, **keywords):
    with pytest.raises(UserError) as caught:
      write(trained, tmp_path / "out", *arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)

  np.savez(tmp_path / "other.npz", **tiny.arrays(channels=("eeg", "emg")))
  assert error(tmp_path / "other.npz").startswith(
    f"{tmp_path}/other.npz: none of the channels eeg, emg is one of heart_rate, steps, glucose"
  )
  source = my_days.export(tmp_path / "takeout.zip", 1)
  assert error(source, data="x") == "--mode=report of your own days takes either --input or --data, not both"
  assert error(source, importer="abacus").startswith("--source=abacus: expected auto or one of ")
  (tmp_path / "empty").mkdir()
  assert "holds nothing that an importer reads" in error(tmp_path / "empty")
  with pytest.raises(ConfigError, match=r"expected a folder or an .html file on this machine"):
    command.write(str(trained), str(source), "auto", None, None, "data", "all", "gs://bucket/page")
  with pytest.raises(ConfigError, match="is the same file as"):
    (tmp_path / "days.html").write_text("x")
    command.write(str(trained), str(tmp_path / "days.html"), "auto", None, None, "data", "all", f"{tmp_path}/days.html")


def test_the_day_that_is_far_from_the_others_is_found():
  rng = np.random.default_rng(0)
  embedding, who = rng.normal(size=(40, 8)), np.array(["a"] * 20 + ["b"] * 20)
  embedding[7] += 6
  apart = unlike.distances(embedding, who)
  nearest = np.sort([np.linalg.norm(embedding[7] - embedding[i]) for i in range(20) if i != 7])[:3]
  assert np.isclose(apart[7], nearest.mean())
  scores = unlike.robust_scores(apart, who)
  assert np.flatnonzero(scores > unlike.FAR).tolist() == [7]
  few = who.copy()
  few[26:] = "c"
  assert np.isnan(unlike.distances(embedding, few)[20:26]).all(), "six days of a person are too few"
  assert (unlike.robust_scores(np.ones(20), who[:20]) == 0).all(), "equal days are not unlike"
