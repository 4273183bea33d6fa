"""The report: opened in a browser, readable without pictures, safe with hostile names, open about what is missing."""

import csv
import html
import itertools
import json
import math
import re
import shutil

import ml_collections
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.evaluation.results import WHOLE_DAYS, Result, ResultsError, write_csv
from aim.report import curves, embedding, page, tables, verdicts
from aim.report.workdir import RESULTS, Workdir, tell_apart, together
from data_pipelines.build import build, npz_request
from data_pipelines.errors import SchemaError
from data_pipelines.npz import NpzSource
from data_pipelines.page import chart, document
from data_pipelines.page.blocks import Section, Table, TextLine
from data_pipelines.schema import Channel, Schema
from data_pipelines.splits import ListSplit
from tests import tiny
from tests.browser import Outline, browse, faults

HOSTILE = "<script>alert(1)</script>"
DOLLARS = r"cost $\frac{"  # matplotlib would read mathematics, and fail
PERSON = "p<img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  """Eight people, the last four held out; names that try to break out of the page, and known causes."""
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
  for kind, (file, _) in RESULTS.items():
    write_csv(workdir / file, made_up(kind, "LSM-2"))
  return workdir


@pytest.fixture(scope="module")
def written(dataset, trained):
  """The page of the command line, with the config that the workdir keeps."""
  ended = tiny.run("--mode=report", f"--workdir={trained}")
  assert ended.code == 0, ended.err
  assert ended.out.splitlines()[-1] == str(trained / "report" / "index.html")
  return trained / "report" / "index.html"


def made_up(kind: str, model: str, better: float = 0.1) -> list[Result]:
  """Numbers of the model beside two others, with a paired row against one."""
  levels = {
    "finetune": ("1 % of labels", "10 % of labels", "100 % of labels"),
    "robustness": ("without PPG", "at night"),
  }
  rows = []
  for level in levels.get(kind, ("30 %", "80 %")):
    for name, value in ((model, 0.5 - better), ("linear", 0.5), (HOSTILE, 0.6)):
      rows.append(Result("tiny", "random", level, name, "mse", value, value - 0.02, value + 0.02, 4, 0))
    rows.append(Result("tiny", "random", level, model, "mse vs linear %", -200 * better, -25.0, -15.0, 4, 0, "linear"))
  return rows


# ----- in a browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(written, tmp_path, width, dark):
  found = browse(tmp_path / "page.html", written.read_text(), width, dark)
  assert not faults(found)
  assert found.width == width
  bright = lambda colour: np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]])
  assert (bright(found.background) < bright(found.ink)) == dark
  assert abs(bright(found.background) - bright(found.ink)) > 150
  assert found.shown > 10


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
    # Only what is not of the palette would stay a fixed colour: there is nothing.
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
    page.cards.Code(HOSTILE, HOSTILE),
  ]
  text = document.render([Section("s", HOSTILE, blocks)], HOSTILE, "report")
  assert HOSTILE not in text and text.count("&lt;script&gt;alert(1)") == 14  # title, heads, links, labels, cells


# ----- what is not there


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
  assert line() == "error: --mode=report needs --workdir=...\n"
  assert line(f"--workdir={tmp_path}").startswith(f"error: {tmp_path}/config.json: no such file; expected the workdir")
  bad = shutil.copytree(trained, tmp_path / "bad")
  (bad / "probe" / "results.csv").open("a").write("tiny,age,day,LSM-2,mae,nine,,,4,0\n")
  last = len((bad / "probe" / "results.csv").read_text().splitlines())
  assert line(f"--workdir={bad}").startswith(
    f"error: {bad}/probe/results.csv line {last}: 'tiny,age,day,LSM-2,mae,nine"
  )
  (bad / "config.json").write_text("{")
  assert line(f"--workdir={bad}").startswith(f"error: {bad}/config.json: not the JSON of a config")
  (bad / "config.json").write_text('{"name": "x"}')
  assert "no group 'report'" in line(f"--workdir={bad}")


def test_a_bad_line_of_the_journal_is_named(tmp_path):
  (tmp_path / "metrics.jsonl").write_text(
    '{"step": 1, "loss": 2.0}\n{"step": 2, "skipped": "x"}\n{"step": 1, "loss": 1.0}\n'
  )
  assert workdir_of(tmp_path).journal == [{"step": 1, "loss": 1.0}]
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"loss"\n')
  with pytest.raises(ResultsError, match=r"metrics.jsonl line 2: .* expected JSON with a step"):
    _ = workdir_of(tmp_path).journal


# ----- several workdirs


def workdir_of(path, name="LSM-2") -> Workdir:
  def nothing(config):
    raise SchemaError("no data here")

  return Workdir(path, ml_collections.ConfigDict({"name": name}), nothing)


def test_two_workdirs_side_by_side(tmp_path):
  for folder, better in (("a", 0.1), ("b", 0.2)):
    write_csv(tmp_path / folder / "generative.csv", made_up("generative", "LSM-2", better))
  both = [workdir_of(tmp_path / "a"), workdir_of(tmp_path / "b")]
  tell_apart(both)
  results = together(both, "generative")
  models = ["LSM-2 (a)", "LSM-2 (b)", "linear", HOSTILE]
  assert list(dict.fromkeys(result.model for result in results)) == models
  section = tables.section(both, "generative")
  table = next(block for block in section.blocks if isinstance(block, Table))
  assert table.columns == ["task", "level", *models, "verdict"]
  assert [cell.text for cell in table.rows[1][2:4]] == ["0.4 [0.38, 0.42]", "0.3 [0.28, 0.32]"]
  assert table.rows[1][-1] == TextLine("LSM-2 (a) against linear interpolation: better, -20 % [-25, -15]", "yes")
  [drawn] = section.charts
  assert [text.get_text() for text in drawn.figure.legends[0].get_texts()] == models
  assert len(drawn.rows) == 8  # two levels of two models and of two baselines, which both workdirs have


def test_a_page_of_two_workdirs(trained, tmp_path):
  other = shutil.copytree(trained, tmp_path / "two", ignore=shutil.ignore_patterns("report"))
  config = json.loads((other / "config.json").read_text()) | {"name": "LSM-1"}
  (other / "config.json").write_text(json.dumps(config))
  for kind, (file, _) in RESULTS.items():
    write_csv(other / file, made_up(kind, "LSM-1", 0.05))
  ended = tiny.run("--mode=report", f"--workdir={other}", f"--workdirs={trained}")
  assert ended.code == 0, ended.err
  text = (other / "report" / "index.html").read_text()
  assert "<h1>LSM-1 beside LSM-2</h1>" in text
  outline = Outline(text)
  names = {figure["id"] for figure in outline.figures}
  assert {"map-1-1-missing", "map-2-1-missing", "atlas-1-hours"} <= names and "atlas-2-hours" not in names
  with (other / "report" / "day-1.csv").open(newline="") as file:
    assert next(csv.reader(file))[4:6] == ["LSM-1", "LSM-2"]


# ----- the parts


def sentence(metric: str, value: float, low: float, high: float) -> TextLine:
  other = metric.split(" vs ")[1].removesuffix(" %")
  [line] = verdicts.sentences([Result("d", "random", "80 %", "LSM-2", metric, value, low, high, 9, 0, other)])
  return line


@pytest.mark.parametrize(
  ("metric", "numbers", "text", "tone"),
  [
    (
      "mse vs linear %",
      (-23.0, -27.0, -19.0),
      "LSM-2 against linear interpolation (random, 80 %, mse): better, -23 % [-27, -19]",
      "yes",
    ),
    ("mse vs LSM-1 %", (4.0, 1.0, 7.0), "LSM-2 against LSM-1 (random, 80 %, mse): worse, +4 % [+1, +7]", "no"),
    (
      "mae vs mask-only",
      (-1.0, -3.0, 0.5),
      "LSM-2 against mask-only (random, 80 %, mae): not beyond chance, -1 [-3, +0.5]",
      "open",
    ),
    (
      "auroc vs LSM-1",
      (0.1, 0.05, 0.2),
      "LSM-2 against LSM-1 (random, 80 %, auroc): better, +0.1 [+0.05, +0.2]",
      "yes",
    ),
    (
      "f1 vs constant",
      (0.1, math.nan, math.nan),
      "LSM-2 against a constant (random, 80 %, f1): no interval, +0.1",
      "open",
    ),
  ],
)
def test_a_single_comparison_is_a_sentence(metric, numbers, text, tone):
  assert sentence(metric, *numbers) == TextLine(text, tone)


@given(st.floats(-50, 50), st.floats(0, 20), st.sampled_from(["mse", "mae", "auroc", "balanced_accuracy"]))
def test_a_colour_needs_the_whole_interval(value, half, metric):
  gain = -value if metric in ("mse", "mae") else value
  expected = "yes" if gain > half else "no" if -gain > half else "open"
  assert sentence(f"{metric} vs LSM-1", value, value - half, value + half).tone == expected


def test_without_a_paired_difference_the_best_is_named_with_its_overlaps():
  row = lambda model, value: Result("d", "t", "", model, "mse", value, value - 0.1, value + 0.1, 9, 0)
  ranked = [row("a", 0.1), row("b", 0.2), row("c", 0.9)]
  assert tables.overlap(ranked) == "best: a; its interval overlaps with b"
  assert tables.overlap([ranked[0], ranked[2]]) == "best: a; its interval overlaps with no other"


def test_one_metric_of_each_row_is_drawn_and_judged(tmp_path):
  row = lambda task, model, metric, value: Result(
    *("d", task, "day", model, metric, value, value - 1, value + 1, 9, 0),
    compared_with="sex" if " vs " in metric else WHOLE_DAYS if " drop" in metric else "",
  )
  rows = [row("age", model, metric, 9.0) for model in ("LSM-2", "sex") for metric in ("rmse", "mae", "mae vs sex")]
  rows += [
    row("sick", model, metric, 3.0)
    for model in ("LSM-2", "sex")
    for metric in ("f1", "auroc", "auroc vs sex", "f1 vs sex")
  ]
  rows += [row("age without PPG", "LSM-2", metric, 2.0) for metric in ("mae", "mae drop", "mae drop %")]
  heads = tables.headline(rows)
  assert [heads["d", task, "day"] for task in ("age", "sick", "age without PPG")] == ["mae", "auroc", "mae drop %"]
  write_csv(tmp_path / "probe" / "results.csv", rows)
  section = tables.section([workdir_of(tmp_path)], "probe")
  assert [drawn.title for drawn in section.charts] == ["age: mae", "sick: auroc", "age without PPG: mae drop %"]
  shown = [block.text for block in section.blocks if isinstance(block, TextLine) and block.tone]
  assert shown == [
    "LSM-2 against sex (age, day, mae): worse, +9 [+8, +10]",
    "LSM-2 against sex (sick, day, auroc): better, +3 [+2, +4]",
  ]
  assert {block.title for block in section.blocks if isinstance(block, Table) and not block.folded} >= {
    "mae on d (lower is better)",
    "auroc on d (higher is better)",
  }


def test_seeds_of_one_file_are_told_apart(tmp_path):
  rows = [Result("d", "age", "1 % of labels", "LSM-2", "mae", 9.0 + s, 8.0, 10.0, 9, s) for s in (0, 1)]
  write_csv(tmp_path / "finetune" / "results.csv", rows)
  found = together([workdir_of(tmp_path)], "finetune")
  assert [(result.task, result.value) for result in found] == [("age (seed 0)", 9.0), ("age (seed 1)", 10.0)]


def test_many_rows_and_models_are_drawn_whole():
  """Robustness of 20 settings takes two charts; a learning curve one, its levels in order."""
  row = lambda level, model: Result("d", "age", level, model, "mae", 9.0, math.nan, math.nan, 9, 0)
  with chart.style():
    dots = curves.charts([row(f"without {'x' * i}", f"m{m}") for i in range(20) for m in range(10)], "robustness")
    [curve] = curves.charts([row(f"{i} % of labels", "m") for i in (100, 5, 10)], "finetune")
  assert sorted(len(each.rows) for each in dots) == [60, 140]
  assert [text.get_text() for text in curve.figure.axes[0].get_xticklabels()] == ["5", "10", "100"]


def test_a_learning_curve_counts_the_people_whose_labels_were_seen():
  known, unknown = (
    Result("d", "age", f"{percent} % of labels", "LSM-2", "mae", 9.0, 8.0, 10.0, 9, 0, n_labelled_people=count)
    for percent, count in ((10, 12), (100, None))
  )
  with chart.style():
    [curve] = curves.charts([known, unknown], "finetune")
  assert curve.columns[-1] == "people whose labels were seen"
  assert [line[-1] for line in curve.rows] == [12, ""]


@given(
  st.one_of(
    st.lists(st.one_of(st.none(), st.floats(-1e3, 1e3)), min_size=1, max_size=30),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=1, max_size=30),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=30),
  )
)
def test_every_value_has_a_colour_group(values):
  groups, ordered = embedding.grouped(values)
  assert len(groups) == len(values) and set(groups) <= set(ordered) and len(ordered) == len(set(ordered)) <= 9
  assert [group == embedding.UNKNOWN for group in groups] == [value is None for value in values]


def test_the_map_keeps_what_differs_most():
  rng = np.random.default_rng(0)
  far = rng.normal(size=(40, 1)) * 10
  places, explained = embedding.project(
    (far @ rng.normal(size=(1, 6)) + rng.normal(size=(40, 6)) * 0.1).astype(np.float32)
  )
  assert abs(np.corrcoef(places[:, 0], far[:, 0])[0, 1]) > 0.999 and explained[0] > 0.99


def test_a_channel_without_sensor_or_unit_is_drawn():
  schema = Schema(60, (Channel("a"), Channel("b", kind="binary")))
  values = np.ones((24, 2), np.float32)
  values[3:9, 0] = np.nan
  drawn = page.days.DrawnDay("t", values, values, np.zeros((24, 2), np.uint8), {})
  with chart.style():
    made = page.days.day_figure(schema, drawn, "day")
    assert "minutes missing" in made.columns and "var(--cause0)" in made.svg
