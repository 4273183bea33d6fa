"""Bad input to the command line ends as one line on stderr, `error: ...`, and exit code 2, never as a traceback."""

import copy
import importlib.util
import json
import pathlib
import shutil

import numpy as np
import pytest

from aim import commands
from aim.training import checkpoint
from aim.training.checkpoint_metadata import CheckpointError, check_resumable
from data_pipelines import build as build_cli
from tests import tiny

CONFIG = f"--config={tiny.CONFIG}"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def other(dataset):
  """Days of other channels, beside `dataset`."""
  return tiny.dataset(dataset.path.parents[3], "other", channels=("pulse", "stress", "asleep"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
  """The workdir of a finished run on `dataset`."""
  workdir = tmp_path_factory.mktemp("trained")
  ended = tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(), f"--workdir={workdir}")
  assert ended.code == 0, ended.err
  return workdir


def failing(*arguments, **options):
  """The last line of stderr after `error: `, for a command line that must fail."""
  ended = tiny.run(*arguments, **options)
  lines = ended.err.strip("\n").splitlines()
  assert ended.code == 2, ended
  assert [line for line in lines if "Traceback" in line] == []
  assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
  return lines[-1].removeprefix("error: ")


def pretraining(dataset, workdir, *arguments, **changes):
  return failing(CONFIG, *tiny.on(dataset), *tiny.overrides(**changes), f"--workdir={workdir}", *arguments)


def evaluating(dataset, workdir, *arguments, **changes):
  return pretraining(dataset, workdir, "--mode=evaluate", *arguments, **changes)


def embedding(trained, data, *arguments, output="never.npz"):
  return failing("--mode=embed", f"--checkpoint={trained}", f"--data={data}", f"--output={output}", *arguments)


def imputing(trained, source, *arguments, output="never.npz"):
  return failing("--mode=impute", f"--checkpoint={trained}", f"--input={source}", f"--output={output}", *arguments)


def test_nothing_and_help():
  assert failing() == "--mode=pretrain needs --config=..."
  text = tiny.run("--help").out
  assert "--config" in text
  assert all(mode.name in text and mode.help in text for mode in commands.MODES.values())


def test_an_experiment_is_found_by_name_from_any_folder(tmp_path):
  """The run ends at the dataset that it does not find, once the config has been read and overridden."""
  ended = tiny.run("--config=lsm2_tiny", "--config.data.name=nowhere", "--workdir=w", cwd=tmp_path)
  assert ended.code == 2
  assert "nowhere" in ended.err and "lsm2_tiny" not in ended.err, ended.err


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([CONFIG], "--mode=pretrain needs --workdir=..."),
    ([CONFIG, "--mode=evaluate"], "--mode=evaluate needs --workdir=..."),
    (["--mode=embed", "--output=x.npz"], "--mode=embed needs --checkpoint=..."),
    (["--mode=embed", "--checkpoint=x"], "--mode=embed needs --output=..."),
    (["--mode=embed", "--checkpoint=x", "--output=x.npz"], "--mode=embed needs --data=..."),
    (["--mode=impute", "--checkpoint=x", "--output=x.npz"], "--mode=impute needs --input=..."),
    ([CONFIG, "--mode=pretrian"], "flag --mode=pretrian: value should be one of <pretrain|embed|"),
    ([CONFIG, "--wrokdir=x"], "Unknown command line flag 'wrokdir'. Did you mean: workdir"),
    ([CONFIG, "--workdir=x", "more"], "unexpected argument 'more'; flags start with --"),
    (["--config=nowhere.py"], "--config=nowhere.py: no such file"),
    (["--config=lsm2_tny"], "--config=lsm2_tny: no shipped experiment of this name; the nearest shipped experiment is"),
    (["--config", "lsm2_tny"], "the nearest shipped experiment is --config=lsm2_tiny"),
    (["--config=lsm2_tiny"], "--mode=pretrain needs --workdir=..."),
    (["--config", "lsm2_tiny"], "--mode=pretrain needs --workdir=..."),
    (["--config=lsm2_tiny", "--config.batch_sise=4"], "the nearest is --config.batch_size"),
    (["--config", "nowhere.py", "--workdir=x"], "--config=nowhere.py: no such file"),
    ([CONFIG, "--config.batch_sise=4"], "--config.batch_sise: no such config key; the nearest is --config.batch_size"),
    ([CONFIG, "--config.model.encoder.widht=4"], "the nearest is --config.model.encoder.width"),
    ([CONFIG, "--config.model.encoder=4"], "--config.model.encoder: is a group of keys, such as --config.model.enco"),
    ([CONFIG, "--config.batch_size=many"], "flag --config.batch_size=many: expected a whole number"),
    ([CONFIG, "--config.optimizer.learning_rate=fast"], "learning_rate=fast: expected a number"),
    ([CONFIG, "--config.model.remat=maybe"], "flag --config.model.remat=maybe: "),
    ([CONFIG, "--config.data.name"], "Missing value for flag --config.data.name"),
  ],
)
def test_flags(arguments, message, tmp_path):
  assert message in failing(*arguments)
  assert not pathlib.Path(tiny.ROOT / "x").exists()


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("def get_config(:\n", "SyntaxError: invalid syntax (bad.py, line 1)"),
    ("x = 1\n", "has no get_config() that returns an ml_collections.ConfigDict"),
    ("def get_config():\n  return {}\n", "has no get_config() that returns an ml_collections.ConfigDict"),
    ("import nowhere\n", "ModuleNotFoundError: No module named 'nowhere'"),
    ("def get_config():\n  return 1 / 0\n", "ZeroDivisionError: division by zero"),
  ],
)
@pytest.mark.parametrize("override", [[], ["--config.batch_size=4"]])
def test_config_files(text, message, override, tmp_path):
  path = tmp_path / "bad.py"
  path.write_text(text)
  assert failing(f"--config={path}", f"--workdir={tmp_path}", *override) == f"--config={path}: {message}"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model__patch_minutes": 90}, "config.model.patch_minutes is 90, expected a multiple of the data's 60 minutes"),
    ({"model__patch_minutes": 420}, "config.model.patch_minutes is 420: a day is not a whole number of such patches"),
    ({"model__encoder__width": 18}, "config.model.encoder.width is 18, expected a multiple of 4"),
    ({"batch_size": 3, "optimizer__accumulate": 2}, "config.batch_size is 3, expected a multiple of 2"),
    ({"optimizer__learning_rate": "inf"}, "config.optimizer.learning_rate is inf, expected a number above 0"),
    ({"optimizer__on_nan": "pray"}, "config.optimizer.on_nan is 'pray', expected one of stop, skip"),
    ({"mesh__data": 2}, "config.mesh: data 2 x fsdp 1 x tensor 1 does not equal 1 devices"),
    ({"data__name": "fiel"}, "no dataset 'fiel' in "),
  ],
)
def test_settings(dataset, tmp_path, changes, message):
  assert message in pretraining(dataset, tmp_path, **changes)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_missing_extra(dataset, tmp_path):
  line = pretraining(dataset, tmp_path, log__wandb="project")
  assert line == "config.log.wandb needs the package wandb: pip install 'lsm2-aim[wandb]'"


def test_missing_dataset_names_those_there(dataset, other, tmp_path):
  assert pretraining(dataset, tmp_path, data__name="tinny").endswith("; it holds the datasets other, tiny")
  assert pretraining(dataset, tmp_path, data__dir=tmp_path).endswith("; it holds no datasets")


def test_batch_must_fit_the_devices(dataset, tmp_path):
  flags = tiny.overrides(batch_size=6)
  ended = tiny.run(CONFIG, *tiny.on(dataset), *flags, f"--workdir={tmp_path}", devices=4)
  assert ended.code == 2
  assert ended.err == "error: config.batch_size is 6, expected a multiple of 4 (data x fsdp x accumulate)\n"


def test_empty_splits(dataset, trained, tmp_path, capsys):
  assert "dataset 'tiny' has no days in split 'tune'" in evaluating(dataset, trained, evaluate__split="tune")
  nobody = tiny.dataset(tmp_path, "nobody", evaluated=0)
  for mode in ("evaluate", "probe", "finetune", "robustness", "heldout"):
    assert pretraining(nobody, trained, f"--mode={mode}") == (
      f"dataset 'nobody' has no days in split 'eval' ({nobody.path}); to hold out some of its 8 people, build it again "
      "with --folds=5 --fold=0 --overwrite"
    )
  ended = tiny.run(CONFIG, *tiny.on(nobody), *tiny.overrides(total_steps=1), f"--workdir={tmp_path / 'run'}")
  assert "note: nothing can be scored after this training: dataset 'nobody' has no days in split 'eval'" in ended.out
  # A dataset without training people is refused when it is built, because it would have no statistics.
  source = str(dataset.path.parents[3] / "tiny.npz")
  flags = ["--source=npz", f"--input={source}", f"--data_dir={tmp_path}", "--name=x", "--split=0,0.5,0.5"]
  assert build_cli.main(["build", *flags]) == 2
  assert "error: no people in split 'pretrain'" in capsys.readouterr().err


def test_resume_of_another_model_or_data(dataset, other, trained, tmp_path):
  again = shutil.copytree(trained, tmp_path / "copy")
  assert "is of another architecture: model.encoder.width is 16 there, 32" in pretraining(
    dataset, again, model__encoder__width=32
  )
  assert "is of another architecture: model.patch_minutes" in pretraining(dataset, again, model__patch_minutes=240)
  assert "is of another architecture: optimizer.ema is 0.9" in pretraining(dataset, again, optimizer__ema=0.0)
  assert "is of another schema: missing channels ['stress']; unknown channels ['steps']" in pretraining(other, again)
  more = tiny.dataset(tmp_path, "more", people=9)
  assert "was trained on other data: its normalisation statistics differ" in pretraining(more, again)


def test_a_key_that_changes_the_statistics_is_named_rather_than_they(trained):
  saved = checkpoint.newest_metadata(trained)
  current = copy.deepcopy(saved)
  current["config"]["data"]["zero_is_missing"] = ["pulse"]
  current["statistics"]["mean"][0] += 1
  with pytest.raises(CheckpointError, match=r"^here is of another architecture: data\.zero_is_missing is .* there"):
    check_resumable(saved, current, "here")


def test_what_concerns_the_skip_may_change_where_there_is_none(trained, capsys):
  def resume(skip, skip_evidence):
    saved, current = (copy.deepcopy(checkpoint.newest_metadata(trained)) for _ in range(2))
    for metadata in (saved, current):
      metadata["config"]["model"]["interpolation_skip"] = skip
    current["config"]["model"] |= {"evidence_embedding": "after", "skip_evidence": skip_evidence}
    check_resumable(saved, current, "here")

  resume(skip=False, skip_evidence="smooth")
  told = capsys.readouterr().out
  assert "here: model.evidence_embedding is now after (was before)\n" in told and "model.skip_evidence is now" in told
  with pytest.raises(CheckpointError, match=r"model\.evidence_embedding is before there, after in this config"):
    resume(skip=True, skip_evidence="line")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"random_patch_minutes": 7}, "config.evaluate.random_patch_minutes is 7"),
    ({"random_percent": (0,)}, "config.evaluate.random_percent holds 0, expected a whole number from 1 to 99"),
  ],
)
def test_evaluate_settings(dataset, trained, changes, message):
  assert message in evaluating(dataset, trained, **{f"evaluate__{key}": value for key, value in changes.items()})


def test_workdir_without_a_checkpoint(dataset, tmp_path):
  nothing = f"{tmp_path}: holds no complete checkpoint; train first with --mode=pretrain"
  source = dataset.path.parents[3] / "tiny.npz"
  assert evaluating(dataset, tmp_path) == nothing
  assert embedding(tmp_path, source) == nothing
  assert imputing(tmp_path, source) == nothing
  assert imputing(tmp_path / "no", source).startswith(
    f"{tmp_path}/no: no such folder; expected a workdir, a checkpoint"
  )


def test_export_and_use(dataset, trained, tmp_path):
  """An exported folder is a --checkpoint: the same embeddings, to the bit."""
  exporting = "--mode=export", f"--workdir={trained}", f"--output={tmp_path / 'model'}"
  (tmp_path / "card.yaml").write_text("licence: MIT")
  ended = tiny.run(*exporting, f"--card={tmp_path / 'card.yaml'}")
  assert ended.code == 0 and "5,092 parameters in float32, 6 steps" in ended.out, ended
  assert f"note: {tmp_path}/model/README.md states no terms of its data; --card=FILE.yaml can" in ended.out
  card = (tmp_path / "model" / "README.md").read_text()
  assert "5 people, 10 days." in card and "license: mit" in card
  assert failing(*exporting).startswith(f"export to {tmp_path}/model: the folder exists; --overwrite")
  embeddings = []
  for model in (trained, tmp_path / "model"):
    output = tmp_path / f"{model.name}.npz"
    flags = f"--data={dataset.path.parents[3] / 'tiny.npz'}", f"--output={output}", f"--checkpoint={model}"
    assert (ended := tiny.run("--mode=embed", *flags)).code == 0, ended
    embeddings.append(np.load(output)["embedding"])
  assert embeddings[0].tobytes() == embeddings[1].tobytes()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--workdir=x"], "--mode=export needs --output=..."),
    (["--workdir=x", "--output=gs://b/m"], "--output=gs://b/m: expected a folder on this machine"),
    (
      ["--workdir=hf://a/b", "--output=m"],
      "--workdir=hf://a/b: a model of a hub is read only",
    ),
    (["--workdir=x", "--output=m", "--export_dtype=int8"], "flag --export_dtype=int8: value should be one of"),
    (["--workdir=x", "--output=m", "--card=no.yaml"], "no.yaml: no such file"),
    (
      ["--workdir=x", "--output=m", "--format=stablehlo", "--export_dtype=float16"],
      "--format=stablehlo: has no model card and no other dtype",
    ),
    (["--checkpoint=lsm2-nonsense", "--output=m"], "lsm2-nonsense: no such folder; expected a workdir, a checkpoint"),
    (["--checkpoint=hf://a", "--output=m"], "hf://a: expected hf://owner/name or hf://owner/name@revision"),
  ],
)
def test_export_flags(arguments, message, tmp_path):
  assert message in failing("--mode=export", *arguments, cwd=tmp_path)
  assert not list(tmp_path.iterdir())


def test_data_of_no_channel_of_the_model(dataset, trained, tmp_path):
  """tests/robustness/test_other_channels.py has data of which some channels are the model's."""
  strange = tiny.dataset(tmp_path, "strange", channels=("mood", "stress"))
  source, data = tmp_path / "strange.npz", f"--data_dir={strange.path.parents[2]}"
  difference = "none of the channels mood, stress is one of pulse, steps, asleep, by name or by an alias"
  assert evaluating(strange, trained).startswith(f"dataset 'strange': {difference}")
  assert embedding(trained, "strange", data).startswith(f"dataset 'strange': {difference}")
  assert embedding(trained, source).startswith(f"{source}: {difference}")
  assert imputing(trained, source).startswith(f"{source}: {difference}")
  data = f"--data_dir={dataset.path.parents[2]}"
  assert "no dataset 'nothing' in" in embedding(trained, "nothing", data)
  assert "unknown split 'test'" in embedding(trained, "tiny", data, "--split=test")
  assert "has no days in split 'tune'" in embedding(trained, "tiny", data, "--split=tune")


def infinite(days):
  days["values"][2, 5, 1] = np.inf


def empty_day(days):
  days["values"][3] = np.nan


def duplicate(days):
  days["day"][1], days["date"][1] = days["day"][0], "2024-02-01"


def same_date(days):
  days["date"][1] = days["date"][0]


def doubles(days):
  days["values"] = days["values"].astype(np.float64)


def flat(days):
  days["values"] = days["values"][0]


def short(days):
  days["values"] = days["values"][:, :-1]


def half_asleep(days):
  days["values"][1, 1, 2] = 0.5


def pickled(days):
  days["participant"] = days["participant"].astype(object)


def no_channels(days):
  del days["channels"]


def other_unit(days):
  days["unit"] = np.array(["mmol/L", "", ""])


DAYS = [
  (other_unit, "channel 'pulse': unit is 'mmol/L', expected 'bpm' or a unit that converts to it"),
  (infinite, "key 'values': row 2 step 5 channel 'steps' is infinite"),
  (duplicate, "row 1: participant 'p0' already has day 0 in row 0"),
  (same_date, "row 1: participant 'p0' already has date 2024-01-01 in row 0"),
  (doubles, "key 'values' is float64, expected float32"),
  (flat, "key 'values' has shape [24, 3], expected [days, steps, channels]"),
  (short, "key 'values' has 23 steps per day, expected 24 at 60 minutes per step"),
  (half_asleep, "key 'values': row 1 step 1 binary channel 'asleep' holds 0.5, expected 0, 1 or NaN"),
  (pickled, "key 'participant' is a pickled object array, which is not loaded"),
  (no_channels, "key 'channels' is missing"),
]


@pytest.mark.parametrize("use", [embedding, imputing])
@pytest.mark.parametrize(("spoil", "message"), DAYS, ids=lambda value: getattr(value, "__name__", ""))
def test_bad_days(trained, tmp_path, use, spoil, message):
  days = tiny.arrays()
  spoil(days)
  np.savez(tmp_path / "days.npz", **days)
  output = tmp_path / "out.npz"
  assert use(trained, tmp_path / "days.npz", output=output).startswith(f"{tmp_path / 'days.npz'}: {message}")
  assert not output.exists()


@pytest.mark.parametrize("use", [embedding, imputing])
def test_bad_files(trained, tmp_path, use):
  path = tiny.write_npz(tmp_path / "days.npz")
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  assert use(trained, path) == f"{path}: not an npz archive, or a truncated one"
  path.write_text("participant,day\n")
  assert use(trained, path) == f"{path}: not an npz archive, or a truncated one"
  assert use(trained, tmp_path / "no.npz") == f"{tmp_path}/no.npz: no such file"


def test_a_day_without_values(trained, tmp_path):
  days = tiny.arrays()
  empty_day(days)
  np.savez(tmp_path / "days.npz", **days)
  assert "row 3 (participant 'p1', day 1): every value is NaN" in embedding(trained, tmp_path / "days.npz")
  # Nothing can be embedded, but the day can be imagined.
  ended = tiny.run(
    "--mode=impute", f"--checkpoint={trained}", f"--input={tmp_path}/days.npz", f"--output={tmp_path}/o.npz"
  )
  assert ended.code == 0, ended.err
  assert np.isfinite(np.load(tmp_path / "o.npz")["values"]).all()


def test_outputs(trained, dataset, tmp_path):
  source = dataset.path.parents[3] / "tiny.npz"
  assert embedding(trained, source, output="o.csv") == "--output=o.csv: ends in '.csv', expected .parquet or .npz"
  assert imputing(trained, source, output="o.parquet") == "--output=o.parquet: expected a name ending in .npz"
  (tmp_path / "file").write_text("")
  for output in ("/proc/nowhere/o.npz", f"{tmp_path}/file/o.npz"):
    for use in (embedding, imputing):
      assert use(trained, source, output=output).startswith(f"--output={output}: cannot write to ")
  assert pretraining(dataset, "/proc/nowhere").startswith("--workdir=/proc/nowhere: cannot write to ")
  assert pretraining(dataset, tmp_path / "file").startswith(f"--workdir={tmp_path}/file: cannot write to ")


def test_imputed_days_are_not_imputed_again(trained, tmp_path):
  np.savez(tmp_path / "days.npz", **tiny.arrays(), filled=np.zeros(1))
  assert imputing(trained, tmp_path / "days.npz").startswith(f"{tmp_path}/days.npz: has the key 'filled'")


@pytest.mark.parametrize("keep", [0.5, pytest.param(0, marks=pytest.mark.slow)])
def test_truncated_shards(dataset, trained, tmp_path, keep):
  data = shutil.copytree(dataset.path.parents[2], tmp_path / "data")
  for shard in data.rglob("tiny/*/*.array_record*"):
    shard.write_bytes(shard.read_bytes()[: int(keep * shard.stat().st_size)])
  start = f"{data}/day_windows/tiny/1.0.0/day_windows-{{}}.array_record-00000-of-00001: "
  workdir = tmp_path / "workdir"
  assert pretraining(dataset, workdir, data__dir=data).startswith(start.format("pretrain"))
  line = evaluating(dataset, workdir, f"--checkpoint={trained}", data__dir=data)
  assert line.startswith(start.format("eval")) and "bytes, expected " in line and "build the dataset again" in line
  assert embedding(trained, "tiny", f"--data_dir={data}").startswith(start.format("pretrain"))


def test_a_finished_run_ends_well(dataset, trained):
  ended = tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(), f"--workdir={trained}")
  assert (ended.code, ended.err) == (0, "")
  assert json.loads((trained / "config.json").read_text())["total_steps"] == tiny.RUN["total_steps"]
