"""--mode=scaling and --mode=heldout: a grid of cells, each scored on the same masks of the same people."""

import csv
import functools
import json
import shlex
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aim.common import config_files as config_settings
from aim.common.config_files import ConfigError
from aim.evaluation import scored_model
from aim.evaluation.generative import heldout_loss
from aim.inference import pretrained
from aim.model import buffer_sizes, loss, lsm2, masking, patches
from aim.model.lsm2 import Tower
from aim.model.patches import Scale
from aim.studies import job_runner
from aim.studies.scaling import run as scaling_run
from aim.studies.scaling.curves import along, curves
from aim.studies.scaling.figure import draw_scaling
from aim.studies.scaling.points import MEASURES, ScalingCell, ScalingPoint, read_points
from aim.studies.scaling.power_law import Power
from aim.training.checkpoint import Restored
from data_pipelines.schema import Channel, Schema
from experiments import default, lsm1_xs
from experiments import scaling as experiment
from tests import tiny

SCHEMA = Schema(60, (*(Channel(f"c{i}") for i in range(3)), Channel("asleep", kind="binary")))
STATISTICS = {key: np.array(value) for key, value in {"mean": [0, 0, 0, 0.4], "std": [1, 1, 1, 0.5]}.items()}
STATISTICS |= {"min": np.full(4, -3.0), "max": np.full(4, 3.0)}


def model_of(width, config=None):
  config = config or default.get_config()
  config.model.patch_minutes = 120
  tower = Tower(width=width, mlp=2 * width, heads=1, layers=1)
  group = config.model.patch_channels
  architecture = tiny.architecture(
    channels=4,
    length=12,
    patch=2,
    patch_channels=group,
    encoder=tower,
    decoder=tower,
    binary=tuple(SCHEMA.binary.tolist()),
    observed_flags=config.model.observed_flags,
  )
  params = lsm2.split(lsm2.Lsm2(architecture, lsm2.nnx.Rngs(0)))[1]
  return pretrained.Pretrained(
    Restored(config, SCHEMA, Scale.from_statistics(SCHEMA, STATISTICS), architecture, params, 3),
    devices=jax.local_devices()[:5],
  )


def days(count=5):
  values = np.random.default_rng(1).normal(size=(count, 24, 4)).astype(np.float32)
  values[..., 3] = values[..., 3] > 0
  values[np.random.default_rng(2).random(values.shape) < 0.2] = np.nan
  values[0, 3:9] = np.nan
  return jnp.asarray(values)


def fixed_tokens(trained, key, values, places):
  """The token sets of a held-out loss."""
  a = trained.architecture
  normal = patches.normalised_days(trained.scale, values, trained.imputation)
  z, observed = (patches.fold(x, a.patch_channels) for x in normal)
  return masking.fixed_token_set(key, trained.masking, z, observed, a.patch_values, places)


@pytest.mark.parametrize("kind", ["LSM-2", pytest.param("LSM-1", marks=pytest.mark.slow)])
def test_masks_are_the_same_for_every_size_and_batch(kind):
  config = lambda: lsm1_xs.as_lsm1(default.get_config()) if kind == "LSM-1" else default.get_config()
  key, values, places = jax.random.key(0), days(), jnp.arange(5)
  tokens = lambda width: jax.jit(functools.partial(fixed_tokens, model_of(width, config()), key))
  of_small = tokens(8)
  small, large, other = of_small(values, places), tokens(16)(values, places), of_small(values, places + 5)
  alone = of_small(values[3:4], places[3:4])
  for name, ours, theirs, one in zip(small._fields, small, large, alone, strict=True):
    if ours is None:  # means of other days, which these models do not read
      assert name == "context" and theirs is None and one is None
      continue
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours[3:4], one)
  shown = lambda tokens: [set(o[:n].tolist()) for o, n in zip(tokens.order, tokens.visible_lengths, strict=True)]
  assert shown(small) != shown(other)
  assert (np.asarray(small.target).sum((1, 2)) > 0).all()


@pytest.mark.slow
def test_the_objective_on_five_devices_is_the_training_loss():
  trained, values = model_of(8), days()
  error, scored, counts = heldout_loss.objective(trained, 0)(trained.params_on_mesh, values, jnp.arange(5))
  tokens = fixed_tokens(trained, jax.random.key(0), values, jnp.arange(5))
  buffers = buffer_sizes.textbook(48, 0, "all")
  network = lsm2.merge(lsm2.abstract(trained.architecture)[0], trained.params)
  total, count = loss.token_error(network, tokens, jnp.asarray(SCHEMA.binary), buffers)
  assert float(error.sum()) == pytest.approx(float(total), rel=1e-5)
  assert float(scored.sum()) == float(count) == np.asarray(tokens.target).sum()
  np.testing.assert_array_equal(np.asarray(counts)[:, 0], tokens.visible_lengths)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("data"))


def cells_of(config, workdir):
  return scaling_run.cells(config, job_runner.datasets(config, "scaling"), workdir)


@pytest.fixture
def config(dataset):
  config = default.get_config()
  config.data.update({"dir": str(dataset.path.parents[2]), "name": dataset.name})
  config.scaling.models = (tiny.CONFIG, "experiments/lsm1_xs.py --config.optimizer.ema=0.9")
  config.scaling.participants = (2, 4, 0)
  config.scaling.days = (5, 0)
  config.scaling.sizes = ("3XS", "XXS")
  config.scaling.steps = (2, 4)
  config.scaling.at.update({"size": "XXS", "steps": 4})
  return config


def test_a_grid_of_axes_and_one_of_everything(config):
  points = scaling_run.points(config.scaling)
  assert len(points) == 2 + 1 + 4, "the common corner once"
  assert len({tuple(point.items()) for point in points}) == 7
  assert {(p["participants"], p["days"]) for p in points if p["size"] == "3XS"} == {(0, 0)}
  config.scaling.grid = "all"
  everything = scaling_run.points(config.scaling)
  assert len(everything) == 3 * 2 * 2 * 2
  assert all(point in everything for point in points)


def test_cells_name_all_that_they_are(config, tmp_path):
  config.scaling.seeds = (0, 1)
  cells = cells_of(config, tmp_path)
  assert len(cells) == 7 * 2 * 2 and len({cell.folder for cell in cells}) == len(cells)
  assert [cell.number for cell in cells] == list(range(28))
  # Another optimiser setting makes other cells: results of the old one are not mistaken for it.
  config.scaling.common = ("--config.optimizer.b2=0.9",)
  assert not {cell.folder for cell in cells} & {cell.folder for cell in cells_of(config, tmp_path)}
  one = next(cell for cell in cells if cell.participants == 2 and cell.model == "LSM-1")
  assert [command.arguments[-1] for command in one.commands] == ["--mode=pretrain", "--mode=heldout"]
  assert {"--config.data.max_participants=2", "--config.total_steps=4", "--config.data.name=tiny"} <= {
    *one.commands[0].arguments
  }


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"models": ()}, r"config\.scaling\.models is empty"),
    ({"models": ("experiments/simclr_xs.py",)}, "is of method 'simclr', which reconstructs nothing"),
    ({"models": (tiny.CONFIG, tiny.CONFIG)}, "two of one name"),
    ({"sizes": ("XXS", "XXL")}, r"config\.scaling\.sizes: 'XXL', expected sizes of the ladder: 3XS, S, XS"),
    ({"participants": (2, 4)}, r"config\.scaling\.at\.participants is 0, expected one of config\.scaling\.partic"),
    ({"cells": (3, 99)}, r"config\.scaling\.cells: 99, expected numbers of 0 to 13"),
  ],
)
def test_values_that_cannot_be_used(config, tmp_path, change, message):
  config.scaling.update(change)
  with pytest.raises(ConfigError, match=message):
    scaling_run.scaling(config, tmp_path)


AT = {"participants": 0, "days": 0, "size": "XS", "steps": 100}
TRUTH = {"participants": Power(1.5, 0.3, 0.2), "hours": Power(2.0, 0.25, 0.3), "parameters": Power(3.0, 0.2, 0.1)}


def made_up(model="LSM-2", seeds=(0,)):
  """Points whose losses follow TRUTH along each axis."""
  points = []

  def add(law, x, size="XS", steps=100, limits=(0, 0), **axes):
    numbers = {"participants": 800.0, "hours": 96_000.0, "parameters": 1e6, "compute": 1e12} | axes
    for seed in seeds:
      value = float(law(np.array([x]))[0])
      draws = value * np.exp(np.random.default_rng(9).normal(0, 0.02, 8))
      losses = {name: value for name in MEASURES}
      both = dict.fromkeys(losses, draws)
      points.append(
        ScalingPoint(
          "made_up", model, size, steps, seed, limits, **numbers, seconds=1.0, people=9, value=losses, draws=both
        )
      )

  for x in (10, 30, 100, 300):
    add(TRUTH["participants"], x, limits=(x, 0), participants=float(x), hours=120.0 * x)
  for x in (240, 2400, 9600, 24_000, 48_000):
    add(TRUTH["hours"], x, limits=(0, x // 24), hours=float(x))
  for size, x in (("3XS", 1e4), ("XXS", 1e5), ("XS+", 3e6), ("S", 7e6)):
    for steps in (50, 100):
      add(TRUTH["parameters"], x * steps / 100, size=size, steps=steps, parameters=x, compute=1e6 * x * steps)
  return points


def test_curves_recover_what_the_points_were_made_of():
  fits = {(curve.measure, curve.axis): curve for curve in curves(made_up(), AT)}
  for axis, law in TRUTH.items():
    curve = fits["mse", axis]
    assert curve.law.b == pytest.approx(law.b, rel=0.05) and curve.law.c == pytest.approx(law.c, rel=0.05)
    assert f"falls as {axis}^{-law.b:.2g} [" in curve.line()
    assert f"levels off at {law.c:.3g} [" in curve.line()
  front = fits["loss", "compute"]
  assert len(front.x) == 8 and sorted(front.y, reverse=True) == front.y
  assert front.law.b == pytest.approx(0.2, rel=0.05)


def test_axes_hold_the_others_still():
  points = made_up(seeds=(0, 1))
  assert [p.participants for p in along(points, "participants", AT, "mse")] == [10, 10, 30, 30, 100, 100, 300, 300]
  assert {p.limits[0] for p in along(points, "hours", AT, "mse")} == {0}
  assert {p.steps for p in along(points, "parameters", AT, "mse")} == {100}
  assert len(along(points, "compute", AT, "mse")) == 8, "means over seeds"


def test_too_few_points_are_reported_and_drawn(tmp_path):
  points = [p for p in made_up() if p.limits[0] != 10]
  fits = list(curves(points, AT))
  curve = next(fit for fit in fits if fit.axis == "participants")
  assert curve.law is None and curve.x == [30, 100, 300]
  assert curve.line().endswith("no curve against participants: 3 different points, a fit needs 4")
  draw_scaling([*points, *made_up("LSM-1")], [*fits, *curves(made_up("LSM-1"), AT)], tmp_path / "a.png")
  assert (tmp_path / "a.png").stat().st_size > 20_000
  with pytest.raises(ValueError, match="no points to draw"):
    draw_scaling([], [], tmp_path / "b.png")


def test_the_shipped_grid(tmp_path):
  cells = cells_of(experiment.get_config(), tmp_path)
  assert {cell.model for cell in cells} == {"LSM-2", "LSM-1"}
  for axis in ("participants", "days", "size", "steps"):
    assert len({getattr(cell, axis) for cell in cells}) >= 4, "enough for a fit"
  for cell in cells[:8]:
    path = next(flag.removeprefix("--config=") for flag in cell.commands[0].arguments if flag.startswith("--config="))
    keys = [
      flag[len("--config.") :].split("=")[0] for flag in cell.commands[0].arguments if flag.startswith("--config.")
    ]
    config_settings.check_keys(config_settings.load(path), keys)


WRITE = """
import hashlib, json, pathlib, sys
folder, facts = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
people = {f"p{i}": {"error": i + 1.0, "scored": 4.0, "cells": [4.0], "squared": [i + 2.0]} for i in range(3)}
text = json.dumps(facts | {"parameters": 9, "flops": 1e6, "people": people})
(folder / "heldout.json").write_text(text)
(folder / "scored").mkdir(exist_ok=True)
digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
record = {"name": "LSM-2", "step": 4, "parameters": folder.name, "files": {"heldout.json": digest}}
(folder / "scored" / "heldout.json").write_text(json.dumps(record))
"""


@pytest.fixture
def quick_cells(tmp_path, config, monkeypatch):
  """Cells whose only command writes a result and its record at once, for parameters named like the cell's folder."""
  job = lambda number, people: ScalingCell(
    *(number, "d", "d", "LSM-2", "3XS", people, 0, 4, 0, tmp_path / "cells" / f"people_{people}"),
    commands=(
      job_runner.Command(
        *(("-c", WRITE, str(tmp_path / "cells" / f"people_{people}"), facts(people), "--mode=heldout"), str(people))
      ),
    ),
  )
  facts = lambda people: json.dumps(
    {"dataset": "d", "model": "LSM-2", "steps": 4, "seed": 0, "participants": people or 5, "days": 9}
  )
  cells = [job(0, 2), job(1, 0)]
  monkeypatch.setattr(scaling_run, "cells", lambda *_: cells)
  monkeypatch.setattr(scored_model.source, "saved_parameters_digest", lambda workdir: workdir.name)
  monkeypatch.setattr(scaling_run, "study", lambda grid, finished, workdir: list(read_points(finished, 4)))
  return cells


def listed(workdir):
  with (workdir / "cells.csv").open() as file:
    return [(line["done"], float(line["seconds"])) for line in csv.DictReader(file)]


def test_results_that_are_not_their_cells_are_computed_again(config, quick_cells, tmp_path, capsys):
  few, everyone = quick_cells
  ran = lambda cell: (cell.folder / "log.txt").read_text().count("$ python")

  def run():
    scaling_run.scaling(config, tmp_path)
    assert all(done == "True" for done, _ in listed(tmp_path))
    return ran(few), ran(everyone)

  assert [run(), run()] == [(1, 1), (1, 1)]
  whole = few.result.read_text()
  few.result.write_text(whole.replace("4.0", "5.0", 1))
  capsys.readouterr()
  assert run() == (2, 1) and few.result.read_text() == whole
  assert f"{few.result}: is not as --mode=heldout wrote it; computed again" in capsys.readouterr().out
  few.result.unlink()
  assert run() == (3, 1)
  shutil.copy(everyone.result, few.result)
  assert run() == (4, 1)
  for name in ("heldout.json", "scored/heldout.json"):  # a file with its record
    shutil.copy(everyone.folder / name, few.folder / name)
  assert run() == (5, 1) and few.result.read_text() == whole
  assert "its scores are of LSM-2 at step 4 (parameters people_0), which is not the newest" in capsys.readouterr().out

  few.result.write_text("{}")
  (few.folder / "commands.json").unlink()  # as if another scheduler had run it
  config.scaling.cells = (1,)
  scaling_run.scaling(config, tmp_path)
  said = capsys.readouterr().out
  assert ran(few) == 5 and "finished: 1 of 2 cells" in said and listed(tmp_path)[0][0] == "False"
  assert f"note: {few.result}: is not as --mode=heldout wrote it; left out until its cell runs again" in said
  config.scaling.cells = ()
  assert run() == (6, 1)
  assert f"{few.result}: is not as --mode=heldout wrote it; computed again" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"dataset": "e"}, "dataset is 'e', expected 'd' of its cell"),
    ({"model": "LSM-1"}, "model is 'LSM-1', expected 'LSM-2' of its cell"),
    ({"steps": 8}, "steps is 8, expected 4 of its cell"),
    ({"seed": 1}, "seed is 1, expected 0 of its cell"),
    ({"participants": 5}, "participants is 5, expected at most 2 of its cell"),
  ],
)
def test_a_result_of_another_training_is_refused(config, quick_cells, tmp_path, change, message):
  few, _ = quick_cells
  job_runner.run(quick_cells, "scaling")
  few.result.write_text(json.dumps(json.loads(few.result.read_text()) | change))
  with pytest.raises(ConfigError, match=f"heldout.json: {message}; remove the folder and repeat"):
    list(read_points(quick_cells, 4))


def test_the_list_of_cells_is_written_while_they_run(config, quick_cells, tmp_path, monkeypatch):
  seen, write = [], scaling_run.write_rows
  monkeypatch.setattr(
    scaling_run,
    "write_rows",
    lambda path, columns, rows: seen.append([r[9:11] for r in rows]) or write(path, columns, rows),
  )
  scaling_run.scaling(config, tmp_path)
  assert [[done for done, _ in rows] for rows in seen[:3]] == [[False, False], [True, False], [True, True]]
  assert listed(tmp_path) == [("True", pytest.approx(0, abs=5))] * 2


@pytest.mark.slow
def test_cells_run_once_by_anyone(config, tmp_path, monkeypatch, capsys):
  for key, value in tiny.environment().items():
    monkeypatch.setenv(key, value)
  monkeypatch.chdir(tiny.ROOT)
  tiny.write_npz(tmp_path / "study.npz", people=8, days=2)
  config.data.dir = str(tmp_path / "data")
  config.data.name = ""
  config.scaling.inputs = (f"{tmp_path / 'study.npz'}:4",)
  config.scaling.run_folds = (1,)
  of_study = ("model.encoder.", "model.decoder.", "optimizer.learning_rate=", "total_steps=", "seed=")
  of_study = tuple(f"--config.{key}" for key in of_study)
  config.scaling.common = tuple(flag for flag in tiny.overrides() if not flag.startswith(of_study))
  config.scaling.participants, config.scaling.days, config.scaling.sizes = (2, 0), (0,), ("3XS",)
  config.scaling.steps, config.scaling.bootstrap = (2,), 10
  config.scaling.at.update({"size": "3XS", "steps": 2})
  config.scaling.cells = (2,)
  work = tmp_path / "scaled"
  scaling_run.scaling(config, work)
  assert "finished: 1 of 4 cells" in capsys.readouterr().out
  with (work / "cells.csv").open() as file:
    lines = list(csv.DictReader(file))
  assert [line["number"] for line in lines] == ["build", "0", "1", "2", "3"]
  assert [line["done"] for line in lines[1:]] == ["False", "False", "True", "False"]

  # Another scheduler runs the commands of cells.csv in any shell.
  for command in lines[1]["commands"].split(" && "):
    ended = tiny.run(*shlex.split(command)[3:])
    assert ended.code == 0, ended.err
  before = {path: path.stat().st_mtime_ns for path in work.glob("cells/*/heldout.json")}
  assert len(before) == 2
  config.scaling.cells = ()
  scaling_run.scaling(config, work)
  out = capsys.readouterr().out
  assert "to run now: 2;" in out and "finished: 4 of 4 cells" in out and "a fit needs 4" in out
  assert all(path.stat().st_mtime_ns == when for path, when in before.items())
  heldout = [json.loads(path.read_text()) for path in sorted(work.glob("cells/*/heldout.json"))]
  assert {(each["model"], each["participants"], each["days"]) for each in heldout} == {
    ("LSM-2", 2, 4), ("LSM-2", 6, 12), ("LSM-1", 2, 4), ("LSM-1", 6, 12)
  }  # fmt: skip
  assert {each["windows"] for each in heldout} == {8} and all(each["flops"] > 0 for each in heldout)
  scored = [{name: person["cells"] for name, person in each["people"].items()} for each in heldout]
  assert all(each == scored[0] for each in scored) and len(scored[0]) == 2, "the same values of the same people"
  with (work / "scaling.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 4 and all(float(row["mse_low"]) <= float(row["mse"]) <= float(row["mse_high"]) for row in rows)
  assert len(json.loads((work / "fits.json").read_text())["curves"]) == 2 * 2 * 4
  assert (work / "scaling-study.png").stat().st_size > 20_000
