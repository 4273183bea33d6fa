"""The registry of modes: complete, in step with its page, and light to import."""

import json
import re
import subprocess
import sys
import types

import jax
import pytest

from aim import commands
from aim.common.config_files import ConfigError
from aim.inference import loading
from experiments import default
from tests import tiny

DOCUMENT = (tiny.ROOT / "docs" / "modes.md").read_text(encoding="utf-8")
# --checkpoint may be left out where --workdir is given.
FLAGS = {"config": "--config", "workdir": "--workdir", "checkpoint": "--workdir"}


@pytest.mark.parametrize("mode", commands.MODES.values(), ids=commands.MODES)
def test_the_page_of_modes_names_what_a_mode_needs(mode):
  (row,) = [line for line in DOCUMENT.splitlines() if line.startswith(f"| `{mode.name}`")]
  needs = row.split("|")[3]
  assert not [flag for flag in mode.needs if FLAGS.get(flag, f"--{flag}") not in needs]


def test_the_page_of_modes_names_the_shared_ones():
  (names,) = re.findall(r"^((?:`\w+`(?:, | and )?)+) share their work", DOCUMENT, re.MULTILINE)
  assert re.findall(r"`(\w+)`", names) == [mode.name for mode in commands.MODES.values() if mode.shared]


@pytest.mark.parametrize("mode", commands.MODES.values(), ids=commands.MODES)
def test_a_flag_that_a_mode_needs_is_missed_in_one_line(mode):
  given = {flag: default.get_config() if flag == "config" else "x" for flag in mode.needs}
  commands.check_flags(commands.Arguments(mode.name, **given))
  for flag in mode.needs:
    with pytest.raises(ConfigError) as error:
      commands.check_flags(commands.Arguments(mode.name, **{**given, flag: None}))
    assert str(error.value) == f"--mode={mode.name} needs --{flag}=..."


def test_nothing_heavy_is_imported_before_a_mode_runs():
  """Otherwise --help and a mistyped flag would take seconds."""
  program = """
import sys
import aim.main
from aim.common import config_files
config_files.load("lsm2_base")
print([name for name in ("jax", "flax", "matplotlib", "pandas", "tensorflow_datasets") if name in sys.modules])
"""
  done = subprocess.run([sys.executable, "-c", program], cwd=tiny.ROOT, env=tiny.environment(), capture_output=True)
  assert done.stdout.decode().strip() == "[]", done.stderr.decode()


@pytest.mark.parametrize(
  ("platforms", "changes", "refused"),
  [
    (["tpu"] * 8, {}, True),
    (["gpu", "gpu"], {}, True),
    (["tpu"] * 8, {"name": "mine"}, False),
    (["tpu"] * 8, {"simulate": True}, False),
    (["gpu"], {}, False),
    (["cpu"] * 8, {}, False),
  ],
)
def test_several_accelerators_do_not_train_on_simulated_people_by_oversight(platforms, changes, refused, monkeypatch):
  devices = [types.SimpleNamespace(platform=platform) for platform in platforms]
  monkeypatch.setattr(jax, "devices", lambda: devices)
  config = default.get_config()
  config.data.update(changes)
  if not refused:
    return commands.check_training_data(config)
  with pytest.raises(ConfigError) as error:
    commands.check_training_data(config)
  assert str(error.value) == (
    f"config.data.name is empty, so {len(platforms)} accelerators would train on 200 simulated people; name a dataset "
    "with --config.data.name=..., or confirm with --config.data.simulate=True"
  )


@pytest.fixture(scope="module")
def model():
  return loading.load("lsm2-watch-xs")


def test_scoring_leaves_the_config_of_the_training_run(tmp_path, model):
  """It stays what the model was trained with, whatever config the scores are computed with."""
  config = default.get_config()
  commands.open_workdir(tmp_path, config)
  trained = (tmp_path / "config.json").read_text()
  config.evaluate.days = 7
  arguments = commands.Arguments("evaluate", config=config, workdir=str(tmp_path))
  assert arguments.opened_for_scores() == (config, tmp_path)
  assert not (tmp_path / "configs").exists(), "scores that are not complete have no config"
  arguments.keep_record(model)
  assert (tmp_path / "config.json").read_text() == trained
  assert json.loads((tmp_path / "configs" / "evaluate.json").read_text())["evaluate"]["days"] == 7
  assert (tmp_path / "scored" / "evaluate.json").exists()


def test_scores_in_a_workdir_of_their_own_keep_their_config(tmp_path, model):
  config = default.get_config()
  arguments = commands.Arguments("probe", config=config, workdir=str(tmp_path / "new"))
  arguments.opened_for_scores()
  arguments.keep_record(model)
  assert (tmp_path / "new" / "config.json").read_text() == (tmp_path / "new" / "configs" / "probe.json").read_text()


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (
      {"mode": "pretrain", "checkpoint": "x"},
      "--checkpoint: --mode=pretrain does not use it (those that do: embed, impute, export, report, evaluate, heldout, "
      "probe, finetune, robustness); to start from weights: --config.init.checkpoint",
    ),
    (
      {"mode": "evaluate", "data": "mine"},
      "--data: --mode=evaluate does not use it (those that do: embed, report, calibrate); the dataset: --config.data",
    ),
    (
      {"mode": "heldout", "split": "eval"},
      "--split: --mode=heldout does not use it (those that do: embed, report); what is scored: --config.evaluate.split",
    ),
    (
      {"mode": "calibrate", "config": None},
      "--config: --mode=calibrate does not use it (those that do: pretrain, embed",
    ),
    ({"mode": "embed", "data": "x.npz", "split": "eval"}, "--split: --mode=embed does not use it for an npz file"),
    (
      {"mode": "impute", "workdir": "x", "checkpoint": "y"},
      "--workdir: --mode=impute does not use it beside --checkpoint, which names the model",
    ),
    (
      {"mode": "report", "workdir": "x", "timezone": "Mars/X"},
      "--timezone: --mode=report does not use it for a page of workdirs, without --input or --data",
    ),
    ({"mode": "report", "data": "mine", "timezone": "x"}, "--timezone: --mode=report does not use it with --data"),
    ({"mode": "report", "input": "x.zip", "split": "eval"}, "--split: --mode=report does not use it with --input"),
    (
      {"mode": "report", "input": "x.zip", "workdirs": ["a"]},
      "--workdirs: --mode=report does not use it for a page of",
    ),
  ],
  ids=str,
)
def test_a_flag_without_effect_is_refused(given, message):
  with pytest.raises(ConfigError) as error:
    commands.check_flags(commands.Arguments(**given, given=frozenset(given)))
  assert str(error.value).startswith(message)


@pytest.mark.parametrize(
  ("study", "overrides", "meant"),
  [
    ("scaling", {"total_steps": 6}, "--config.scaling.steps"),
    ("scaling", {"seed": 1}, "--config.scaling.seeds"),
    ("scaling", {"evaluate.days": 20}, "--config.scaling.common=\"('--config.evaluate.days=20',)\""),
    ("scaling", {"data.max_days": 20}, "--config.scaling.days"),
    ("scaling", {"data.clip": False}, "--config.scaling.common=\"('--config.data.clip=False',)\""),
    ("compare", {"total_steps": 6}, "--config.compare.common=\"('--config.total_steps=6',)\""),
    ("compare", {"seed": 1}, "--config.compare.seeds"),
    (
      "compare",
      {"probe.tasks": ("a",)},
      """'--config.compare.common=("--config.probe.tasks=('"'"'a'"'"',)",)'""",
    ),
    ("compare", {"scaling.bootstrap": 6}, ""),
    ("compare", {"compare.jobs": 2, "data.dir": "x", "data.name": "y"}, None),
    ("scaling", {"scaling.seeds": (1,), "data.participants": 9}, None),
    ("pretrain", {"total_steps": 6}, None),
  ],
)
def test_config_keys_that_a_study_does_not_read_are_refused(study, overrides, meant):
  arguments = commands.Arguments(study, default.get_config(), "x", overrides=overrides)
  if meant is None:
    return commands.check_flags(arguments)
  with pytest.raises(ConfigError) as error:
    commands.check_flags(arguments)
  advice = f", as its models have configs of their own; expected {meant}" if meant else ""
  assert str(error.value) == f"--config.{next(iter(overrides))}: --mode={study} does not use it{advice}"


def test_advice_keeps_what_a_study_has_in_common():
  config = default.get_config()
  config.compare.common = ("--config.evaluate.days=9",)
  with pytest.raises(ConfigError, match=r"""common="\('--config.evaluate.days=9', '--config.total_steps=6'\)"$"""):
    commands.check_flags(commands.Arguments("compare", config, "x", overrides={"total_steps": 6}))


def test_the_command_line_says_which_config_keys_it_has(tmp_path):
  ended = tiny.run("--config=scaling", "--mode=scaling", f"--workdir={tmp_path}", "--config.batch_size=4")
  assert ended.code == 2 and ended.err.startswith("error: --config.batch_size: --mode=scaling does not use it")
  assert not list(tmp_path.iterdir())
  ended = tiny.run("--mode=report", f"--workdir={tmp_path}")  # without --config
  assert ended.err.startswith(f"error: {tmp_path}/config.json: no such file")


@pytest.mark.parametrize("mode", ["report", "scale_out"])
def test_a_workdir_that_is_listed_twice_is_refused(mode, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "link").symlink_to("a")
  (tmp_path / "a").mkdir()
  check = lambda *others, first="w": commands.check_flags(
    commands.Arguments(mode, workdir=first, checkpoint=first, workdirs=others)
  )
  check("a", "b")
  for others in (("a", "./a"), ("a", "link"), ("a", str(tmp_path / "a"))):
    with pytest.raises(ConfigError, match=f"--workdirs: {others[1]} is the same workdir as a; leave one of them out"):
      check(*others)
  with pytest.raises(ConfigError, match="--workdirs: a/ is the same workdir as a;"):
    check("a/", first="a")
  with pytest.raises(ConfigError, match="--workdirs: gs://b/a/ is the same workdir as gs://b/a;"):
    check("gs://b/a", "gs://b/a/")


def test_the_command_line_says_which_flags_it_has(tmp_path):
  flags = f"--config={tiny.CONFIG}", "--mode=heldout", f"--workdir={tmp_path}", "--overwrite=False"
  ended = tiny.run(*flags)
  message = "error: --overwrite: --mode=heldout does not use it (those that do: export)\n"
  assert (ended.code, ended.err) == (2, message)


def test_commands_in_the_documents_have_no_flag_without_effect():
  pages = [*tiny.ROOT.glob("*.md"), *tiny.ROOT.glob("docs/**/*.md"), *tiny.ROOT.glob("experiments/*.py")]
  texts = [re.sub(r"\\+\n", " ", path.read_text(encoding="utf-8")) for path in pages]
  lines = [line for text in texts for line in re.findall(r"-m aim\.main ([^\n`#]*)", text)]
  assert len(lines) > 40
  for line in lines:
    flags = dict(re.findall(r"--(\w+)(?:=(\S*))?", re.sub(r"--config\.\S+", "", line)))
    mode = flags.get("mode", "pretrain")
    if mode in commands.MODES:
      values = {name: flags[name] for name in ("input", "data") if name in flags}
      overrides = dict(re.findall(r"--config\.([\w.]+)=(\S*)", line))
      arguments = commands.Arguments(mode, **values, given=frozenset(flags), overrides=overrides)
      commands.check_used(arguments, commands.MODES[mode])
