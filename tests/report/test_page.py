"""The report page: in a browser, readable without pictures, safe with hostile names, open about what is missing."""

import csv
import html
import itertools
import json
import math
import re
import shutil

import numpy as np
import pytest

from aim.evaluation.scored_model import ScoredModel, record, recorded
from aim.inference import loading
from aim.report.workdir import RESULTS
from data_pipelines.build import build, npz_request
from data_pipelines.npz import NpzSource
from data_pipelines.page import chart, document
from data_pipelines.page.blocks import Code, Section, Table, TextLine
from data_pipelines.splits import ListSplit
from tests import tiny
from tests.browser import Outline, browse, faults
from tests.report.made_up import HOSTILE, made_up, write_scores

DOLLARS = r"cost $\frac{"  # matplotlib would parse it as mathematics and fail
PERSON = "p<img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  """Eight people, the last four held out, with hostile names everywhere and known causes of missing values."""
  folder = tmp_path_factory.mktemp("report")
  days = tiny.arrays(channels=("pulse", HOSTILE, "asleep", DOLLARS))
  days["participant"] = np.array([f"{PERSON}{name}" for name in days["participant"]])
  labels = {
    name: {"age": 30 + 5 * i, "sex": "mf"[i % 2], HOSTILE: HOSTILE * (i % 2)} for i, name in enumerate(people(days))
  }
  days["labels"] = np.array(json.dumps(labels))
  days["cause"] = np.where(np.isnan(days["values"]), 2, 0).astype(np.uint8)
  np.savez(folder / "tiny.npz", **days)
  split = ListSplit(tuple(people(days)[:4]), (), tuple(people(days)[4:]))
  source = folder / "tiny.npz"
  return build(NpzSource(source), folder / "data", "tiny", split=split, request=npz_request(source))


def people(days) -> list[str]:
  return list(dict.fromkeys(days["participant"].tolist()))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
  """A workdir with a model and made-up results of every kind."""
  workdir = tmp_path_factory.mktemp("runs") / "one"
  ended = tiny.run(f"--config={tiny.CONFIG}", *tiny.on(dataset), *tiny.overrides(), f"--workdir={workdir}")
  assert ended.code == 0, ended.err
  model = ScoredModel.of(loading.load(workdir))
  for kind in RESULTS:
    write_scores(workdir, kind, made_up(kind, "LSM-2"), model)
  return workdir


@pytest.fixture(scope="module")
def written(dataset, trained):
  """The page that the command line writes, with the config stored in the workdir."""
  ended = tiny.run("--mode=report", f"--workdir={trained}")
  assert ended.code == 0, ended.err
  assert ended.out.splitlines()[-1] == str(trained / "report" / "index.html")
  return trained / "report" / "index.html"


# ----- in a browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(written, tmp_path, width, dark):
  seen = browse(tmp_path / "page.html", written.read_text(), width, dark)
  assert not faults(seen)
  assert seen.width == width
  bright = lambda colour: np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]])
  assert (bright(seen.background) < bright(seen.ink)) == dark
  assert abs(bright(seen.background) - bright(seen.ink)) > 150
  assert seen.shown > 10


@pytest.mark.parametrize(
  "broken",
  [
    "<script>nonsense();</script>",
    "<script>console.error('so');</script>",
    '<img src="http://127.0.0.1:9/x.png" alt="">',
    '<link rel="stylesheet" href="other.css">',
    '<div style="width: 600px">wide</div>',
  ],
)
def test_the_browser_test_can_fail(written, tmp_path, broken):
  plain = (
    '<!DOCTYPE html><html><head><meta name="viewport" content="width=device-width">{}</head><body>{}</body></html>'
  )
  assert not faults(browse(tmp_path / "good.html", plain.format("", "")))
  assert faults(browse(tmp_path / "bad.html", plain.format("", broken)))


def test_a_choice_shows_one_chart_at_a_time(written, tmp_path):
  text = written.read_text()
  shown = browse(tmp_path / "page.html", text).shown
  outline = Outline(text)
  options, choices = outline.tags.count("option"), outline.tags.count("select")
  assert choices == 2 and options > choices
  assert shown == len(outline.figures) - options + choices


# ----- what is on it


def test_every_chart_has_its_numbers_as_text_and_its_files(written):
  outline = Outline(written.read_text())
  names = [figure["id"] for figure in outline.figures]
  assert {"day-1", "atlas-1-hours", "training-loss", "map-1-1-missing"} <= set(names)
  assert any(name.startswith("finetune") for name in names) and any(name.startswith("robustness") for name in names)
  for figure in outline.figures:
    [svg] = figure["svg"]
    assert svg["role"] == "img" and len(outline.captions[svg["aria-labelledby"]].strip()) > 20
    rows = list(csv.reader((written.parent / f"{figure['id']}.csv").open(newline="")))
    assert len({len(row) for row in rows}) == 1 and len(rows) > 1
    shown = len(rows[1 :: math.ceil((len(rows) - 1) / chart.MOST_ROWS)]) + 1
    assert figure["cells"] == shown * len(rows[0])
    assert (written.parent / f"{figure['id']}.png").read_bytes().startswith(b"\x89PNG")
  assert {path.stem for path in written.parent.glob("*.csv")} == set(names)


def test_structure(written):
  text = written.read_text()
  outline = Outline(text)
  ids = [attributes["id"] for attributes in outline.attributes if "id" in attributes]
  assert len(ids) == len(set(ids))
  links = [a.get("href", a.get("xlink:href", "")) for a in outline.attributes]
  assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
  levels = [int(tag[1]) for tag in outline.tags if re.fullmatch(r"h[1-6]", tag)]
  assert levels.count(1) == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))
  assert len(text) < 3e6
  assert "@media print" in text and 'name="viewport"' in text
  for words in ("Data card", "Model card", "Missingness", "Embedding map", "charging", "Apache-2.0", "people held out"):
    assert words in text
  assert "LSM-2 against linear interpolation (mse): better in all 2 comparisons; median -20 %" in text


def test_colours_follow_the_scheme(written):
  drawings = re.findall(r"<svg.*?</svg>", written.read_text(), re.DOTALL)
  for drawing in drawings:
    # A colour outside the palette would stay fixed; there is none.
    assert not re.findall(r"(?:fill|stroke): #(?!ffffff|000000)\w+", drawing)
  assert "var(--s0)" in "".join(drawings)


def test_hostile_names_stay_text(written):
  text = written.read_text()
  outline = Outline(text)
  assert outline.tags.count("script") == 1
  assert HOSTILE not in text and "<img" not in text
  assert "&lt;script&gt;alert(1)" in text and "&lt;img src=x onerror=alert(2)&gt;" in text
  assert DOLLARS in text
  assert not [name for attributes in outline.attributes for name in attributes if name.startswith("on")]


def test_rendering_escapes_every_kind_of_block():
  blocks = [
    TextLine(HOSTILE, "hint", HOSTILE),
    Table(HOSTILE, [HOSTILE], [[HOSTILE], [TextLine(HOSTILE, "yes")]]),
    Code(HOSTILE, HOSTILE),
  ]
  text = document.render([Section("s", HOSTILE, blocks)], HOSTILE, "report")
  assert HOSTILE not in text and text.count("&lt;script&gt;alert(1)") == 14  # title, heads, links, labels, cells


# ----- missing and bad files


def test_missing_files_give_the_command_that_makes_them(tmp_path):
  workdir = tmp_path / "empty"
  flags = [f"--config={tiny.CONFIG}", f"--config.data.dir={tmp_path}", "--config.data.name=gone"]
  ended = tiny.run("--mode=report", *flags, f"--workdir={workdir}")
  assert ended.code == 0, ended.err
  text = html.unescape((workdir / "report" / "index.html").read_text())
  for mode in ("pretrain", "evaluate", "probe", "finetune", "robustness"):
    assert f"--workdir={workdir} --mode={mode}" in text
  assert "no dataset 'gone'" in text and "holds no complete checkpoint" in text
  assert not (workdir / "config.json").exists()


def test_errors_are_one_line(trained, tmp_path):
  line = lambda *flags: tiny.run("--mode=report", *flags).err
  assert line() == "error: --mode=report needs --checkpoint=...\n"
  assert line("--checkpoint=x") == "error: --mode=report needs --workdir=...\n"
  assert line(f"--workdir={tmp_path}").startswith(f"error: {tmp_path}/config.json: no such file; expected the workdir")
  bad = shutil.copytree(trained, tmp_path / "bad")
  (bad / "probe" / "results.csv").open("a").write("tiny,age,day,LSM-2,mae,nine,,,4,0\n")
  record(bad, "probe", recorded(trained, "probe"))
  last = len((bad / "probe" / "results.csv").read_text().splitlines())
  assert line(f"--workdir={bad}").startswith(
    f"error: {bad}/probe/results.csv line {last}: 'tiny,age,day,LSM-2,mae,nine"
  )
  (bad / "config.json").write_text("{")
  assert line(f"--workdir={bad}").startswith(f"error: {bad}/config.json: not JSON: ")
  # A config of an older version gets the defaults of what it lacks, so the next error is that of the results.
  (bad / "config.json").write_text('{"name": "x"}')
  assert line(f"--workdir={bad}").splitlines()[-1].startswith(f"error: {bad}/probe/results.csv line {last}")


# ----- several workdirs


def test_a_page_of_two_workdirs(trained, tmp_path):
  other = shutil.copytree(trained, tmp_path / "two", ignore=shutil.ignore_patterns("report"))
  config = json.loads((other / "config.json").read_text()) | {"name": "LSM-1"}
  (other / "config.json").write_text(json.dumps(config))
  for kind, (_, mode) in RESULTS.items():
    write_scores(other, kind, made_up(kind, "LSM-1", 0.05), recorded(trained, mode))
  ended = tiny.run("--mode=report", f"--workdir={other}", f"--workdirs={trained}")
  assert ended.code == 0, ended.err
  text = (other / "report" / "index.html").read_text()
  assert "<h1>LSM-1 beside LSM-2</h1>" in text
  outline = Outline(text)
  names = {figure["id"] for figure in outline.figures}
  assert {"map-1-1-missing", "map-2-1-missing", "atlas-1-hours"} <= names and "atlas-2-hours" not in names
  with (other / "report" / "day-1.csv").open(newline="") as file:
    assert next(csv.reader(file))[4:6] == ["LSM-1", "LSM-2"]
