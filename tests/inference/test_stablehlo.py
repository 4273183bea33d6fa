"""Exported functions: equal to the model that wrote them, for any days, called where this package is not."""

import dataclasses
import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from aim.common.config_files import ConfigError
from aim.inference import stablehlo
from aim.inference.pretrained import Pretrained
from aim.model import lsm2
from aim.model.lsm2 import Projection
from tests import tiny
from tests.inference.test_pretrained import SCHEMA, days, pretrained
from tests.training.trained.test_exported import restored

PAGE = (tiny.ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


def functions(model: Pretrained, folder):
  """The functions of an exported model by name; impute is None if there is none."""
  stablehlo.write(model, folder)
  read = lambda name: jax.jit(export.deserialize((folder / name).read_bytes()).call)
  return read(stablehlo.EMBED), read(stablehlo.IMPUTE) if (folder / stablehlo.IMPUTE).exists() else None


def check_equal(model: Pretrained, portable, values: np.ndarray):
  """Both functions of `values`, and an embedding of its first day, are the model's."""
  embed, impute = portable
  readable = model.readable_days(values)
  for part in (slice(None), slice(1)):
    expected = model.embed(values[part][readable[part]])
    actual = np.asarray(embed(values[part]))
    np.testing.assert_allclose(actual[readable[part]], expected, rtol=1e-6, atol=1e-6)
    assert np.isnan(actual[~readable[part]]).all()
  if impute is None:
    return
  actual, expected = np.asarray(impute(values)), model.impute(values)
  check_filled(model, actual, expected)
  kept = ~np.isnan(values) & ~((values == 0) & model.scale.zero_is_missing)
  assert np.array_equal(actual[kept], values[kept])


def check_filled(model: Pretrained, actual: np.ndarray, expected: np.ndarray):
  """Equal to 1e-6 of an SD, and to the precision of float32 where a value is many SDs."""
  difference = np.abs(actual.astype(np.float64) - expected)
  assert (difference <= 1e-6 * (model.scale.reference_std + np.abs(expected))).all(), difference.max()


def with_empty_day(values: np.ndarray) -> np.ndarray:
  values = values.copy()
  values[3] = np.nan
  return values


@pytest.fixture(scope="module")
def model():
  """One for which channels without a value are a case of their own, and short holes are on a line."""
  return pretrained(model__decoder__tokens="present", short_holes="interpolate")


@pytest.fixture(scope="module")
def portable(model, tmp_path_factory):
  return functions(model, tmp_path_factory.mktemp("exported") / "portable")


def test_functions_are_the_model(model, portable):
  check_equal(model, portable, with_empty_day(days(6)))


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {"model__decoder__tokens": "all"},
    {"model__decoder__tokens": "observed"},
    {"model__decoder__tokens": "refined"},
    {"model__decoder__tokens": "visible"},
    {"model__interpolation_skip": False, "model__observed_flags": False, "model__scan_layers": True},
    {"masking__min_observed_share": 1.0, "masking__any_observed": ("pulse",), "data__zero_is_missing": ("skin",)},
    {"data__impute": "linear", "model__patch_channels": 3, "model__interpolation_skip": False},
  ],
  ids=str,
)
def test_functions_of_other_models(changes, tmp_path):
  values = with_empty_day(days(6))
  values[4, ::3, 2] = 0
  model = pretrained(**changes)
  check_equal(model, functions(model, tmp_path / "portable"), values)


def test_a_day_that_the_model_refuses_is_nan(portable):
  values = days(6)
  right = [np.asarray(function(values)) for function in portable]
  values[1, 5, 0] = np.inf
  values[2, 5, SCHEMA.names.index("asleep")] = 0.5
  for function, before in zip(portable, right, strict=True):
    after = np.asarray(function(values))
    assert np.isnan(after[[1, 2]]).all() and np.array_equal(after[[0, 3, 4, 5]], before[[0, 3, 4, 5]])


def test_a_model_without_a_decoder_only_embeds(tmp_path):
  read = restored()
  architecture = dataclasses.replace(read.architecture, projection=Projection(24, 8, 2, 0))
  shapes, rng = lsm2.abstract(architecture)[1], np.random.default_rng(0)
  params = {name: jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype) for name, leaf in sorted(shapes.items())}
  model = Pretrained(dataclasses.replace(read, architecture=architecture, params=params))
  stablehlo.write(model, tmp_path / "portable")
  assert sorted(path.name for path in (tmp_path / "portable").iterdir()) == ["embed.jax", "model.json"]
  values = tiny.arrays(people=1)["values"]
  embed = export.deserialize((tmp_path / "portable" / "embed.jax").read_bytes()).call
  np.testing.assert_allclose(embed(values), model.embed(values), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_the_printed_lines_run_without_this_package(tmp_path):
  """Exactly the page's code, in a process that can import JAX and NumPy but neither this package nor Flax."""
  code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
  assert len(code.strip().splitlines()) <= 11
  model = Pretrained(restored())
  stablehlo.write(model, tmp_path / "portable")
  (tmp_path / "reader.py").write_text(code)
  values = tiny.arrays(people=1, days=3)["values"]
  np.save(tmp_path / "days.npy", values)
  program = """
import sys
sys.modules.update(dict.fromkeys(["aim", "data_pipelines", "experiments", "flax", "safetensors"]))
exec(open("reader.py").read())
np.savez("results.npz", embedding=embed(np.load("days.npy")), filled=impute(np.load("days.npy")))
"""
  ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
  assert ended.stdout == "(3, 16) (3, 24, 3)\n", ended.stderr
  results = np.load(tmp_path / "results.npz")
  np.testing.assert_allclose(results["embedding"], model.embed(values), rtol=1e-6, atol=1e-6)
  check_filled(model, results["filled"], model.impute(values))


def test_what_is_written_beside_the_functions(tmp_path):
  model = Pretrained(restored())
  stablehlo.write(model, tmp_path / "portable")
  about = json.loads((tmp_path / "portable" / "model.json").read_text())
  assert about["versions"].keys() == {"lsm2-aim", "jax", "jaxlib"} and about["versions"]["jax"] == jax.__version__
  assert [channel["name"] for channel in about["channels"]] == list(model.schema.names)
  assert [channel["unit"] for channel in about["channels"]] == [channel.unit for channel in model.schema.channels]
  np.testing.assert_allclose([channel["std"] for channel in about["channels"]], model.scale.reference_std)
  assert (about["minutes_per_step"], about["steps"]) == (model.schema.minutes_per_step, model.schema.steps)
  assert (about["trained_steps"], about["parameters"]) == (model.trained_steps, model.parameters_digest)
  embed = about["functions"]["embed.jax"]
  assert embed["platforms"] == ["cpu", "cuda", "tpu"] and embed["calling_convention_version"] >= 9
  assert embed["returns"] == f"float32 [days, {about['embedding_width']}]"
  with pytest.raises(ConfigError, match=r"the folder exists; --overwrite"):
    stablehlo.write(model, tmp_path / "portable")


def test_a_missing_package_is_told_first(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "flatbuffers", None)
  with pytest.raises(ConfigError, match=r"needs the package flatbuffers: pip install 'lsm2-aim\[stablehlo\]'"):
    stablehlo.write(Pretrained(restored()), tmp_path / "portable")
  assert not list(tmp_path.iterdir())
