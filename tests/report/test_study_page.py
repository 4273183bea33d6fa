"""The page of a study's folder: its own results, its cells, and no dataset that it never used."""

import html
import re
import shutil

import pytest

from aim import commands
from aim.common import config_files
from aim.common.config_files import ConfigError
from aim.common.plotting import new_figure, save_figure
from aim.report import study_page
from data_pipelines.errors import UserError
from experiments import default
from tests import tiny
from tests.browser import Outline, browse, faults

RESULTS = tiny.ROOT / "benchmarks" / "results"


def study_folder(path, mode):
  """The folder of a study with the results of one that was run, and two cells with hostile names."""
  shutil.copytree(RESULTS / {"compare": "compare_real", "scaling": "scaling"}[mode], path)
  if mode == "compare":  # that study is of a version without verdicts
    with (path / "comparison.md").open("a") as file:
      file.write("\n| data | task | level | metric | model | against LSM-1 |\n| --- | --- | --- | --- | --- | --- |\n")
      file.write("| d | random | 30 % | mse | LSM-2 | better, -13 % [-14, -11] |\n\nVerdicts: better means so.\n")
  for name in ("a fold & <b>", "plain"):
    (path / "cells" / name / "scored").mkdir(parents=True)
    (path / "cells" / name / "commands.json").write_text("{}")
  (path / "cells" / "plain" / "checkpoints").mkdir()
  (path / "cells" / "plain" / "scored" / "heldout.json").write_text("{}")
  figure = new_figure(2, 1)
  figure.subplots()
  save_figure(figure, path / {"compare": "generative-d-seed0.png", "scaling": "scaling-d.png"}[mode])
  config = default.get_config()
  config.data.dir = str(path.parent / "data")
  config_files.write(config, path / "config.json")
  return path


def report(folder, **flags):
  commands.report_mode(commands.Arguments("report", workdir=str(folder), checkpoint=str(folder), **flags))
  return (folder / "report" / "index.html").read_text()


@pytest.mark.parametrize("mode", ["compare", "scaling"])
def test_the_page_of_a_study_shows_its_results(mode, tmp_path):
  folder = study_folder(tmp_path / "study", mode)
  text = report(folder)
  outline, shown = Outline(text), html.unescape(text)
  assert not (tmp_path / "data").exists() and "There is no comparison yet" not in text
  assert {path.name for path in (folder / "report").iterdir()} == {"index.html"}
  expected = {
    "compare": (
      '<strong class="best">0.531 [0.47, 0.596]</strong>',
      "<h3>Paired differences</h3>",
      "person_time_of_day_mean",
      "**",
    ),
    "scaling": ("LSM-1", "participants", "of 32 finished", "mse_low"),
  }[mode]
  assert all(words in shown for words in expected[:3]) and expected[3] not in text
  links = [a["href"] for a in outline.attributes if "href" in a and a["href"].startswith("../")]
  assert {"../cells/plain/", "../cells/a%20fold%20%26%20%3Cb%3E/", f"../{study_page.FILES[mode][0]}"} <= set(links)
  images = [a for tag, a in zip(outline.tags, outline.attributes, strict=True) if tag == "img"]
  assert [a["src"].startswith("data:image/png;base64,") and bool(a["alt"]) for a in images] == [True]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_of_a_study_in_a_browser(tmp_path, width):
  text = report(study_folder(tmp_path / "study", "compare"))
  assert not faults(browse(tmp_path / "page.html", text, width, False))


def test_an_unfinished_study_says_what_is_missing(tmp_path):
  folder = study_folder(tmp_path / "study", "compare")
  for name in ("comparison.csv", "comparison.md"):
    (folder / name).unlink()
  text = report(folder)
  assert "There is no comparison.csv yet. The command of the study, repeated, runs what is left" in text
  (folder / "commands.csv").unlink()
  shutil.rmtree(folder / "cells" / "plain")
  assert "1 folder" in report(folder)


def test_lines_that_fit_a_scaling_study_are_on_its_page(tmp_path):
  folder = study_folder(tmp_path / "study", "scaling")
  (folder / "fits.json").write_text('{"curves": [{"line": "d, LSM-2: falls <as> hours^-0.1"}, {}]}')
  assert "d, LSM-2: falls &lt;as&gt; hours^-0.1" in report(folder)
  (folder / "scaling.csv").write_text("a,b\n1\n")
  with pytest.raises(UserError, match=r"scaling\.csv line 2: 1 field, expected 2"):
    report(folder)


def test_a_study_has_a_page_of_its_own(tmp_path):
  folder = study_folder(tmp_path / "study", "compare")
  for flag, value in (("checkpoint", "x"), ("workdirs", ["x"])):
    arguments = {"workdir": str(folder), "checkpoint": str(folder)} | {flag: value}
    with pytest.raises(ConfigError, match=f"--{flag}: --mode=report does not use it for the folder of a study"):
      commands.report_mode(commands.Arguments("report", **arguments, given=frozenset({flag})))
  run = tmp_path / "run"
  run.mkdir()
  config_files.write(default.get_config(), run / "config.json")
  with pytest.raises(ConfigError, match=rf"--workdirs: {folder} is the folder of a study, expected runs"):
    report(run, workdirs=[str(folder)])
  (folder / "checkpoints").mkdir()
  assert not study_page.is_study(folder) and not study_page.is_study(run)


def test_a_report_builds_no_dataset(tmp_path):
  run = tmp_path / "run"
  run.mkdir()
  config = default.get_config()
  config.data.dir = str(tmp_path / "data")
  config_files.write(config, run / "config.json")
  text = html.unescape(report(run))
  assert re.search(r"no dataset 'simulated_200x5_seed0' in \S+data; it holds no datasets", text)
  assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("mode", ["evaluate", "heldout", "probe", "finetune", "robustness"])
def test_scoring_a_model_that_is_not_there_builds_no_dataset(mode, tmp_path):
  config = default.get_config()
  config.data.dir = str(tmp_path / "data")
  arguments = commands.Arguments(mode, config, str(tmp_path / "run"), str(tmp_path / "run"))
  with pytest.raises(UserError, match="holds no complete checkpoint"):
    commands.MODES[mode].run(arguments)
  assert not (tmp_path / "data").exists()
