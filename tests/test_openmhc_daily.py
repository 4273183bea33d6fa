"""From exports of Apple Health to a model of OpenMHC's 19 channels: the shipped recipe, then the shipped experiment."""

import pytest

import aim
from aim.training.trained import openmhc
from data_pipelines.build import main
from data_pipelines.ingest import recipes
from tests import tiny
from tests.data_pipelines.ingest import openmhc_export
from tests.interop.test_interop_page import blocks


def test_the_recipe_has_the_channels_of_their_releases():
  assert recipes.load("openmhc").schema == openmhc.schema()


@pytest.mark.slow
def test_an_export_becomes_a_model_of_their_channels(tmp_path, monkeypatch):
  for person in range(4):
    openmhc_export.write(tmp_path / "exports" / f"p{person}", *openmhc_export.DAY, *openmhc_export.PHONE_DAY)
  ((_, commands),) = blocks("OpenMHC's channels from an Apple export")
  build, train = (line.split()[3:] for line in commands.splitlines())
  monkeypatch.chdir(tmp_path)
  assert main(["build", *build]) == 0
  flags = tiny.overrides(model__patch_minutes=360, total_steps=2, batch_size=2)
  ended = tiny.run(*train, *flags, cwd=tmp_path)
  assert ended.code == 0, ended.err
  model = aim.load(tmp_path / "runs" / "daily")
  assert model.schema.names == openmhc.CHANNELS and model.trained_steps == 2
  heart = model.schema.names.index("watch_hr")
  assert model.scale.mean[heart] == 62 and model.scale.zero_is_missing[heart]
