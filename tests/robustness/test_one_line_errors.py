"""Faults of the surroundings end as one line and exit code 2, at once: devices, streams, outputs, odd files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import types

import numpy as np
import pytest

from aim.common.config_files import ConfigError
from aim.evaluation.generative.external_imputations import ExternalError, read_external
from aim.inference import commands
from aim.inference.pretrained import Pretrained
from data_pipelines import npz, streams
from data_pipelines.channels import vocabulary
from data_pipelines.dataset import dataset_path
from data_pipelines.errors import SchemaError
from tests import tiny

CONFIG = f"--config={tiny.CONFIG}"
PROGRAMS = ("aim.main", "data_pipelines.build", "data_pipelines.atlas")


def one_line(ended: tiny.Ended | subprocess.CompletedProcess) -> str:
  code, err = (ended.code, ended.err) if isinstance(ended, tiny.Ended) else (ended.returncode, ended.stderr)
  assert code == 2 and "Traceback" not in err, err
  (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
  return line.removeprefix("error: ")


def in_shell(
  *arguments: str, redirections: str = "", program: str = "aim.main", **variables: str
) -> subprocess.CompletedProcess:
  """The program in a process of its own, with redirections such as 2>&-."""
  command = ["sh", "-c", f'exec "$0" "$@" {redirections}', sys.executable, "-m", program, *map(str, arguments)]
  return subprocess.run(
    command, cwd=tiny.ROOT, env=tiny.environment() | variables, capture_output=True, text=True, timeout=120
  )


@pytest.mark.parametrize("platforms", ["tpu", "cuda", "cpu,nonsense"])
def test_a_platform_that_is_not_there(platforms, tmp_path):
  workdir = tmp_path / "w"
  line = one_line(in_shell(CONFIG, f"--workdir={workdir}", JAX_PLATFORMS=platforms))
  assert line.startswith(f"JAX_PLATFORMS={platforms}: no such device can be used here: ")
  assert not workdir.exists()


def test_closed_streams(tmp_path):
  """An error stays exit code 2, help stays 0, and no file that is opened later becomes the error stream."""
  assert in_shell("--config=nowhere.py", redirections="2>&-").returncode == 2
  assert in_shell("--config=nowhere.py", redirections=">&- 2>&- <&-").returncode == 2
  assert one_line(in_shell("--config=nowhere.py", redirections=">&-")).startswith("--config=nowhere.py: no such file")
  assert in_shell("--help", redirections=">&- 2>&-").returncode == 0


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_stream_that_closes_or_is_full(program):
  assert one_line(in_shell("--help", redirections=">/dev/full", program=program)) == "No space left on device"
  reading, writing = os.pipe()
  os.close(reading)
  ended = subprocess.run(
    [sys.executable, "-m", program, "--help"],
    cwd=tiny.ROOT,
    env=tiny.environment(),
    stdout=writing,
    stderr=subprocess.PIPE,
    text=True,
  )
  os.close(writing)
  assert one_line(ended) == "standard output was closed before the end"


@pytest.mark.parametrize("program", PROGRAMS[1:])
def test_closed_streams_of_the_programs_that_make_datasets(program, tmp_path):
  assert in_shell("--nonsense", redirections=">&- 2>&- <&-", program=program).returncode == 2
  assert in_shell("--help", redirections=">&- 2>&-", program=program).returncode == 0


def test_closed_streams_are_taken_by_dev_null():
  program = "import os; os.close(2); from data_pipelines import streams; streams.open_closed_streams(); "
  program += "print(os.readlink('/proc/self/fd/2'))"
  done = subprocess.run([sys.executable, "-c", program], cwd=tiny.ROOT, capture_output=True, text=True, check=True)
  assert done.stdout.strip() == os.devnull
  streams.open_closed_streams()  # nothing to do


@pytest.mark.parametrize(("mode", "given"), [("embed", "--data"), ("impute", "--input")])
def test_outputs_are_told_before_the_model_is_read(mode, given, tmp_path):
  (tmp_path / "file").write_text("")
  (tmp_path / "folder.npz").mkdir()
  os.mkfifo(tmp_path / "pipe.npz")
  for output, message in (
    (tmp_path / "file" / "o.npz", f"cannot write to {tmp_path / 'file'}: File exists"),
    (tmp_path / "folder.npz", "is a folder, expected a file to write"),
    (tmp_path / "pipe.npz", "is a device or a pipe, expected a file to write"),
    ("/proc/nowhere/o.npz", "cannot write to /proc/nowhere: "),
  ):
    ended = tiny.run(f"--mode={mode}", "--checkpoint=nowhere", f"{given}=nowhere.npz", f"--output={output}")
    assert one_line(ended).startswith(f"--output={output}: {message}")


@pytest.mark.parametrize("use", ["embed", "impute"])
def test_an_output_that_is_the_input(use, tmp_path, monkeypatch):
  source = tiny.write_npz(tmp_path / "days.npz")
  before = source.read_bytes()
  (tmp_path / "link.npz").symlink_to(source)
  os.link(source, tmp_path / "hard.npz")
  monkeypatch.chdir(tmp_path)
  given = {"embed": ("data", "all"), "impute": ()}[use]
  flag = {"embed": "--data", "impute": "--input"}[use]
  for output in (str(source), "days.npz", "../" + tmp_path.name + "/days.npz", "link.npz", "hard.npz"):
    for read in (str(source), "link.npz"):
      with pytest.raises(ConfigError, match=rf"^--output={output}: is the same file as {flag}={read}, which it would"):
        getattr(commands, use)("no model", read, *given, output)
  assert source.read_bytes() == before


def test_an_output_inside_the_dataset_that_is_read(tmp_path):
  folder = dataset_path(tmp_path, "mine")
  folder.mkdir(parents=True)
  output = str(folder / "statistics.npz")
  with pytest.raises(ConfigError, match=f"^--output={output}: is inside --data=mine, which it would overwrite"):
    commands.embed("no model", "mine", str(tmp_path), "all", output)
  flags = ["--checkpoint=x", "--input=gs://bucket/days.npz", "--output=gs://bucket/days.npz"]
  line = one_line(tiny.run("--mode=impute", *flags))
  assert line == "--output=gs://bucket/days.npz: is what --input names, which it would overwrite"


@pytest.mark.parametrize(("use", "suffix"), [("embed", ".parquet"), ("embed", ".npz"), ("impute", ".npz")])
def test_a_disk_that_is_full_at_the_end(use, suffix, tmp_path, monkeypatch):
  """A limit on the size of files fails a write as a full disk does; the model's part is played by simple arithmetic."""
  arrays = tiny.arrays(minutes_per_step=5)
  np.savez(tmp_path / "days.npz", **arrays)
  model = object.__new__(Pretrained)
  vars(model).update(
    schema=npz.read_days(tmp_path / "days.npz").schema,
    vocabulary=vocabulary.load(),
    zero_is_missing=(),
    batch_size=4,
    mesh=types.SimpleNamespace(size=1),
    checked_days=lambda *_, **__: None,
    clipped_channels=lambda days: [],
    embed=lambda days, **_: np.random.default_rng(0).normal(size=(len(days), 500)),
    impute=lambda days, *_, **__: np.nan_to_num(days),
  )
  monkeypatch.setattr(commands.loading, "load", lambda path, **_: model)
  output = tmp_path / f"out{suffix}"
  given = {"embed": ("data", "all"), "impute": ()}[use]
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
  try:
    with pytest.raises(ConfigError) as error:
      getattr(commands, use)("model", str(tmp_path / "days.npz"), *given, str(output))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert str(error.value).startswith(f"--output={output}: cannot be written: ") and "large" in str(error.value)
  assert [path.name for path in tmp_path.iterdir()] == ["days.npz"]


@pytest.mark.parametrize("mode", ["pretrain", "evaluate", "probe", "compare", "report"])
def test_a_workdir_that_cannot_be_written(mode, tmp_path):
  (tmp_path / "file").write_text("")
  for workdir in (tmp_path / "file", "/proc/nowhere"):
    ended = tiny.run(f"--mode={mode}", CONFIG, f"--workdir={workdir}")
    assert one_line(ended).startswith(f"--workdir={workdir}: cannot write to {workdir}")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_reading_never_hangs(kind, tmp_path):
  path = {"pipe": tmp_path / "p.npz", "device": "/dev/zero", "folder": tmp_path / "d.npz"}[kind]
  if kind == "pipe":
    os.mkfifo(path)
  elif kind == "folder":
    path.mkdir()
  with pytest.raises(SchemaError, match=rf"is a {kind}, expected a file"):
    npz.read_days(path)
  if kind != "folder":  # a folder of files is meant
    with pytest.raises(ExternalError, match=rf"is a {kind}, expected a file"):
      read_external(f"theirs={path}")
  what = {"pipe": "is a device or a pipe", "device": "is a device or a pipe", "folder": "is a folder"}[kind]
  assert one_line(tiny.run(f"--config={path}", "--workdir=w")).startswith(f"--config={path}: {what}")
  source = tiny.write_npz(tmp_path / "days.npz")
  for flags in ([f"--checkpoint={path}", f"--data={source}"], [f"--checkpoint={tmp_path}", f"--data={source}"]):
    assert one_line(tiny.run("--mode=embed", f"--output={tmp_path / 'o.npz'}", *flags))


@pytest.mark.parametrize("extra", ["wandb", "tensorboard"])
def test_a_missing_package_is_told_before_compiling(extra, tmp_path, monkeypatch):
  import ml_collections

  from aim.training import metrics_writer

  monkeypatch.setattr(metrics_writer.importlib.util, "find_spec", lambda name: None)
  log = ml_collections.ConfigDict({"wandb": "", "tensorboard": False} | {extra: "x" if extra == "wandb" else True})
  with pytest.raises(
    ConfigError, match=rf"config\.log\.{extra} needs the package .*: pip install 'lsm2-aim\[{extra}\]'"
  ):
    metrics_writer.check_sinks(log)
