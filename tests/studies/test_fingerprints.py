"""Fingerprints change with whatever changes a result, and with nothing else."""

import itertools

import pytest

from aim.common import config_files
from aim.studies import fingerprints
from data_pipelines.digests import Digests
from data_pipelines.errors import UserError
from tests import tiny

DATA = {"source": "npz", "blake2b": "0"}


def of(mode, *overrides, data=DATA):
  return fingerprints.fingerprint(mode, config_files.resolve("lsm2_tiny", overrides), data)


@pytest.mark.parametrize("mode", ["pretrain", "heldout", "evaluate"])
@pytest.mark.parametrize(
  "override", ["--config.seed=1", "--config.model.encoder.layers=2", "--config.data.max_days=9", "--config.method=dino"]
)
def test_a_setting_of_the_training_counts_for_every_mode(mode, override):
  assert of(mode, override) != of(mode)


@pytest.mark.parametrize(
  "override",
  ["--config.evaluate.scenarios.sleep=120", "--config.probe.pca=0", "--config.impute.short_holes=interpolate"],
)
def test_a_setting_of_the_evaluation_leaves_the_training_as_it_is(override):
  assert of("pretrain", override) == of("pretrain")
  assert of("evaluate", override) != of("evaluate")


@pytest.mark.parametrize(
  "override",
  ["--config.data.dir=elsewhere", "--config.log.every_steps=1", "--config.checkpoint.keep=9", "--config.seed=0"],
)
def test_what_changes_no_result_does_not_count(override):
  assert of("evaluate", override) == of("evaluate")


def test_a_value_may_be_written_in_several_ways():
  ways = ("30,80", "(30,80)", "(30, 80)")
  assert len({of("evaluate", f"--config.evaluate.random_percent={way}") for way in ways}) == 1


def test_modes_and_data_differ():
  made = [of(mode, data=data) for mode in ("pretrain", "heldout", "evaluate") for data in (DATA, {"blake2b": "1"})]
  assert all(a != b for a, b in itertools.combinations(made, 2))


def test_a_built_dataset_is_known_by_its_files(tmp_path):
  dataset = tiny.dataset(tmp_path)
  first = fingerprints.built_data(str(tmp_path / "data"), "tiny")
  assert first["content"] == dataset.digest
  for name, key in (("splits.json", "content"), ("request.json", "request")):
    (dataset.path / name).write_text((dataset.path / name).read_text() + "\n")
    Digests.of_folder(dataset.path, {}).save()
    second = fingerprints.built_data(str(tmp_path / "data"), "tiny")
    assert {changed for changed in first if first[changed] != second[changed]} == {key}
    first = second
  with pytest.raises(UserError, match="no dataset 'none'"):
    fingerprints.built_data(str(tmp_path / "data"), "none")


def test_an_edit_of_the_code_counts(tmp_path, monkeypatch):
  package = tmp_path / "made_up_package"
  package.mkdir()
  (package / "__init__.py").write_text("x = 1\n")
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(fingerprints, "PACKAGES", ("made_up_package",))
  first = fingerprints.code(), of("pretrain")
  (package / "notes.md").write_text("not code\n")
  assert (fingerprints.code(), of("pretrain")) == first
  (package / "__init__.py").write_text("x = 2\n")
  second = fingerprints.code(), of("pretrain")
  assert second[0] != first[0] and second[1] != first[1]
  (package / "kernel.cc").write_text("int x;\n")
  assert fingerprints.code() != second[0]


def test_the_code_is_what_the_commands_of_a_cell_run():
  names = {name for name, _ in fingerprints.source_files()}
  assert {"aim/model/loss.py", "aim/model/attention/native.cc", "aim/evaluation/results.py"} <= names
  assert {"aim/main.py", "data_pipelines/loader.py"} <= names
  assert not [name for name in names if name.startswith(("aim/studies/", "aim/report/", "aim/planning/"))]
