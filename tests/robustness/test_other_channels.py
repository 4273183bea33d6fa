"""A trained model on data of other channels, order, units and steps: matched, reported once, never wrong in silence."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import tiny

CONFIG = f"--config={tiny.CONFIG}"
CHANNELS = ("mood", "asleep", "heart_rate")  # of the model: pulse, steps, asleep


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """The workdir of a finished run on hourly days of pulse, steps and asleep."""
  folder = tmp_path_factory.mktemp("trained")
  dataset = tiny.dataset(folder, people=8, channels=("pulse", "steps", "asleep"))
  ended = tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(), f"--workdir={folder / 'run'}")
  assert ended.code == 0, ended.err
  return folder / "run"


def own_arrays(people=8):
  """Half-hourly days of CHANNELS; heart rates are in Hz."""
  arrays = tiny.arrays(people=people, channels=CHANNELS, minutes_per_step=30)
  arrays["values"][:, :, 2] /= 60
  arrays["unit"] = np.array(["", "", "Hz"])
  labels = {f"p{n}": {"age": 30 + n, "sex": "FM"[n % 2]} for n in range(people)}
  return arrays | {"labels": np.array(json.dumps(labels))}


def in_the_models_schema(arrays):
  """The same days by hand: hourly pulse in bpm, no steps, asleep."""
  values = arrays["values"]
  hours = values.reshape(len(values), 24, 2, 3)
  with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
    pulse = np.nanmean(hours[..., 2] * np.float32(60), axis=2, dtype=np.float64)
  asleep = np.where(np.isnan(hours[:, :, 1, 1]), hours[:, :, 0, 1], hours[:, :, 1, 1])
  matched = np.stack([pulse, np.full_like(pulse, np.nan), asleep], axis=2).astype(np.float32)
  own = {key: arrays[key] for key in ("participant", "day", "date", "labels")}
  return own | {
    "values": matched,
    "channels": np.array(["pulse", "steps", "asleep"]),
    "minutes_per_step": np.int64(60),
  }


def test_embed_and_impute_a_file_of_other_channels(trained, tmp_path):
  arrays = own_arrays()
  np.savez(tmp_path / "own.npz", **arrays)
  np.savez(tmp_path / "same.npz", **in_the_models_schema(arrays))
  embeddings = []
  for name in ("own", "same"):
    output = tmp_path / f"{name}.parquet"
    ended = tiny.run("--mode=embed", f"--checkpoint={trained}", f"--data={tmp_path / name}.npz", f"--output={output}")
    assert ended.code == 0, ended.err
    table = pq.read_table(output).to_pandas().drop(columns=["participant", "date"])
    embeddings.append(table.to_numpy())
    if name == "own":
      lines = [line for line in ended.err.splitlines() if line.startswith("note: ")]
      assert sum("the same under another name: heart_rate is pulse" in line for line in lines) == 1
      assert sum("absent, so treated as missing: steps" in line for line in lines) == 1
      assert sum("left out, because they are no channels of the target: mood" in line for line in lines) == 1
      assert sum("steps of 30 min become 60 min where 50 % are observed" in line for line in lines) == 1
  np.testing.assert_allclose(*embeddings, atol=1e-5)
  output = tmp_path / "filled.npz"
  ended = tiny.run("--mode=impute", f"--checkpoint={trained}", f"--input={tmp_path / 'own.npz'}", f"--output={output}")
  assert ended.code == 0, ended.err
  with np.load(output) as filled:
    observed = ~np.isnan(arrays["values"])
    np.testing.assert_array_equal(filled["values"][observed], arrays["values"][observed])
    np.testing.assert_array_equal(filled["values"][..., 0], arrays["values"][..., 0])  # mood
    assert not np.isnan(filled["values"][..., 1:]).any() and set(np.unique(filled["values"][..., 1])) == {0, 1}
    assert filled["values"][..., 2].min() > 0.5 and filled["values"][..., 2].max() < 2  # Hz
    np.testing.assert_array_equal(filled["filled"], np.isnan(arrays["values"]) & ~np.isnan(filled["values"]))
    np.testing.assert_array_equal(filled["unit"], arrays["unit"])


def test_data_of_another_range_are_normalised_by_themselves_on_request(trained, tmp_path):
  arrays = own_arrays(people=20)
  rates = arrays["values"][:, :, 2]
  arrays["values"][:, :, 2] = 2.5 + (rates - np.nanmean(rates)) / 2  # around 150 bpm, which the model never saw
  np.savez(tmp_path / "own.npz", **arrays)
  lowest = {}
  for statistics in ("checkpoint", "data"):
    output = tmp_path / f"{statistics}.npz"
    flags = f"--checkpoint={trained}", f"--input={tmp_path / 'own.npz'}", f"--output={output}"
    ended = tiny.run("--mode=impute", *flags, f"--statistics={statistics}")
    assert ended.code == 0, ended.err
    assert ended.err.count("own.npz: clipped: pulse (") == (statistics == "checkpoint"), ended.err
    assert ended.err.count("LSM-2: normalised by these days: pulse (") == (statistics == "data")
    with np.load(output) as filled:
      lowest[statistics] = filled["values"][..., 2][filled["filled"][..., 2]].min()
  assert lowest["checkpoint"] < 0.99 * np.nanmin(arrays["values"][..., 2]) <= lowest["data"]
  ended = tiny.run("--mode=embed", f"--checkpoint={trained}", "--data=x.npz", "--output=y.npz", "--statistics=data")
  assert ended.code == 2 and "--statistics: --mode=embed does not use it" in ended.err


def test_a_unit_that_does_not_convert_is_refused_before_the_model_is_read(trained, tmp_path):
  np.savez(tmp_path / "own.npz", **own_arrays() | {"unit": np.array(["", "", "kg"])})
  for name in ("impute", "embed"):
    source = f"--{'input' if name == 'impute' else 'data'}={tmp_path / 'own.npz'}"
    ended = tiny.run(f"--mode={name}", f"--checkpoint={trained}", source, f"--output={tmp_path / 'never.npz'}")
    assert ended.code == 2
    assert ended.err.startswith(f"error: {tmp_path}/own.npz: channel 'heart_rate': unit is 'kg', expected 'bpm'")


def test_own_names_come_from_a_file(trained, tmp_path):
  arrays = own_arrays() | {"channels": np.array(["mood", "asleep", "hf_watch"])}
  np.savez(tmp_path / "own.npz", **arrays)
  (tmp_path / "own.yaml").write_text("aliases: {heart_rate: [hf_watch]}")
  flags = (
    "--mode=embed",
    f"--checkpoint={trained}",
    f"--data={tmp_path / 'own.npz'}",
    f"--output={tmp_path / 'e.npz'}",
  )
  ended = tiny.run(*flags, f"--vocabulary={tmp_path / 'own.yaml'}")
  assert ended.code == 0 and "hf_watch is pulse" in ended.err, ended.err
  ended = tiny.run(*flags, f"--vocabulary={tmp_path / 'none.yaml'}")
  assert ended.code == 2 and f"{tmp_path}/none.yaml" in ended.err


@pytest.mark.slow
def test_every_mode_takes_a_dataset_of_other_channels(trained, tmp_path):
  from data_pipelines.build import build, npz_request
  from data_pipelines.npz import NpzSource
  from data_pipelines.splits import ListSplit

  np.savez(tmp_path / "own.npz", **own_arrays(12))
  source = NpzSource(tmp_path / "own.npz")
  people = list(source.participants)
  split = ListSplit(tuple(people[:6]), (), tuple(people[6:]))
  dataset = build(source, tmp_path / "data", "own", split=split, request=npz_request(tmp_path / "own.npz"))
  workdir = tmp_path / "scores"
  for name in ("evaluate", "heldout", "probe", "finetune", "robustness", "report"):
    ended = tiny.run(
      CONFIG,
      *tiny.on(dataset),
      *tiny.overrides(finetune__steps=3, probe__tasks=("age",), probe__min_people=4),
      f"--mode={name}",
      f"--workdir={workdir}",
      f"--checkpoint={trained}",
    )
    assert ended.code == 0, (name, ended.err)
    assert ended.err.count("dataset 'own': absent, so treated as missing: steps") == 1, (name, ended.err)
    assert "dataset 'own': left out, because they are no channels of the target: mood" in ended.err
  tables = "".join(path.read_text() for path in workdir.rglob("*.csv"))
  assert "pulse" in tables and "mood" not in tables
