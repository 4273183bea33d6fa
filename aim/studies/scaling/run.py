"""--mode=scaling: how the loss on people never seen falls with people, hours, parameters and compute.

A cell is one model of one size, trained for some steps on some of the people and days: a folder, named by what it is,
with two commands, whose last one writes heldout.json. Any scheduler may run cells, by their commands in cells.csv or by
--config.scaling.cells; a cell that is done is not done again, and whoever comes last finds all numbers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from aim.common.config_files import ConfigError
from aim.common.tables import write_rows
from aim.studies import job_runner
from aim.studies.scaling import figure as scaling_figure
from aim.studies.scaling import points as scaling_points
from aim.studies.scaling.curves import Curve, curves
from aim.studies.scaling.points import Cell

AXES = {"participants": "participants", "days": "days", "size": "sizes", "steps": "steps"}  # of a cell: config key


def scaling(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Runs the cells that are not done, of config.scaling.cells or all; then studies whatever is done."""
  found = cells(config, workdir)
  chosen = _chosen(config.scaling.cells, found)
  workdir.mkdir(parents=True, exist_ok=True)
  builds = [job_runner.spoken(command) for command in job_runner.data_commands(config, "scaling")]
  _write_cells(found, builds, workdir / "cells.csv")
  missing = [cell for cell in chosen if not cell.result.exists()]
  print(
    f"{workdir}: {len(found)} cells, listed in {workdir / 'cells.csv'}; to run now: {len(missing)}; their output is in "
    f"{workdir}/cells/*/log.txt",
    flush=True,
  )
  if missing:
    job_runner.build(config, "scaling", workdir)
    job_runner.run(missing, "scaling")
    _write_cells(found, builds, workdir / "cells.csv")
  done = [cell for cell in found if cell.result.exists()]
  print(f"{len(done)} of {len(found)} cells are done")
  if done:
    study(config.scaling, done, workdir)


def study(config: ml_collections.ConfigDict, done: Sequence[Cell], workdir: pathlib.Path) -> list[Curve]:
  """Writes scaling.csv, fits.json and a picture for each data set; prints table and verdicts.

  config: config.scaling; done: cells that have a result.
  """
  found = list(scaling_points.read(done, config.bootstrap))
  if not found:
    print("no cell is done on all folds")
    return []
  at = {axis: config.at[axis] for axis in config.at}
  fits = list(curves(found, at))
  scaling_points.write(found, workdir / "scaling.csv")
  written = [workdir / "scaling.csv", workdir / "fits.json"]
  raw = [dataclasses.asdict(curve) for curve in fits]
  written[1].write_text(json.dumps({"law": "a * x ** -b + c", "at": at, "curves": raw}, indent=1) + "\n")
  for dataset in dict.fromkeys(point.dataset for point in found):
    path = workdir / f"scaling-{dataset}.png"
    of = lambda each, name=dataset: [one for one in each if one.dataset == name]
    scaling_figure.chart(of(found), of(fits), path)
    written.append(path)
  print(f"\n{scaling_points.table(found)}\n")
  for curve in fits:
    print(curve.line())
  print("\n" + "\n".join(map(str, written)))
  return fits


def cells(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> list[Cell]:
  """All cells of config.scaling, in the order they are run; ConfigError for a value that cannot be used."""
  study = config.scaling
  if not study.models:
    raise ConfigError("config.scaling.models is empty: it names what to train, as experiments/scaling.py does")
  models = [job_runner.model(entry) for entry in study.models]
  for path, _, name, method in models:
    if method != "mae":
      raise ConfigError(f"config.scaling.models: {path} ({name}) is of method {method!r}, which reconstructs nothing")
  if len({name for _, _, name, _ in models}) < len(models):
    raise ConfigError("config.scaling.models: two of one name; --config.name=... gives one another")
  found: list[Cell] = []
  asked = itertools.product(job_runner.datasets(config, "scaling"), study.seeds, points(study), models)
  for (dataset, fold), seed, point, (path, changes, name, _) in asked:
    changes = [*study.common, *changes, *_of_point(point, study.ladder), f"--config.seed={seed}"]
    changes += [f"--config.data.dir={config.data.dir}", f"--config.data.name={fold}"]
    command = ("-m", "aim.main", f"--config={path}", *changes)
    folder = workdir / "cells" / _folder(fold, name, point, seed, command)
    commands = tuple((*command, f"--workdir={folder}", f"--mode={mode}") for mode in ("pretrain", "heldout"))
    found.append(Cell(len(found), dataset, fold, name, **point, seed=seed, folder=folder, commands=commands))
  return found


def points(study: ml_collections.ConfigDict) -> list[dict[str, Any]]:
  """{participants, days, size, steps} of every cell of a model, each once."""
  values = {axis: list(study[key]) for axis, key in AXES.items()}
  _check(study, values)
  if study.grid == "all":
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
  at = {axis: [study.at[axis]] for axis in AXES}
  planes = (("participants",), ("days",), ("size", "steps"))
  found: dict[tuple, None] = {}
  for plane in planes:
    chosen = {axis: values[axis] if axis in plane else at[axis] for axis in AXES}
    found |= dict.fromkeys(itertools.product(*chosen.values()))
  return [dict(zip(AXES, point, strict=True)) for point in found]


def _check(study: ml_collections.ConfigDict, values: dict[str, list]) -> None:
  if study.grid not in ("axes", "all"):
    raise ConfigError(f"config.scaling.grid is {study.grid!r}, expected 'axes' or 'all'")
  for axis, key in AXES.items():
    if not values[axis]:
      raise ConfigError(f"config.scaling.{key} is empty")
    if study.at[axis] not in values[axis]:
      raise ConfigError(f"config.scaling.at.{axis} is {study.at[axis]!r}, expected one of config.scaling.{key}")
    least = 1 if axis == "steps" else 0
    for value in values[axis] if axis != "size" else ():
      if not isinstance(value, int) or value < least:
        raise ConfigError(f"config.scaling.{key} holds {value!r}, expected whole numbers of at least {least}")
  for size in values["size"]:
    if size not in study.ladder:
      raise ConfigError(f"config.scaling.sizes: {size!r} is none of the ladder's {', '.join(study.ladder)}")


def _of_point(point: dict[str, Any], ladder: ml_collections.ConfigDict) -> Iterator[str]:
  """The overrides that make a config one of a cell."""
  encoder, decoder, rate = ladder[point["size"]]
  for tower, numbers in (("encoder", encoder), ("decoder", decoder)):
    for key, number in zip(("width", "mlp", "heads", "layers"), numbers, strict=True):
      yield f"--config.model.{tower}.{key}={number}"
  yield f"--config.optimizer.learning_rate={rate}"
  yield f"--config.total_steps={point['steps']}"
  yield f"--config.data.max_participants={point['participants']}"
  yield f"--config.data.max_days={point['days']}"


def _folder(fold: str, name: str, point: dict[str, Any], seed: int, command: Sequence[str]) -> str:
  """A name that tells what the cell is, and another one whenever its command is another."""
  people, days = (point[axis] or "all" for axis in ("participants", "days"))
  told = f"{fold}-{name}-{point['size']}-people_{people}-days_{days}-steps_{point['steps']}-seed{seed}"
  return (
    f"{job_runner.slug(told)}-{hashlib.blake2b(job_runner.spoken(tuple(command)).encode(), digest_size=3).hexdigest()}"
  )


def _chosen(numbers: Sequence[int], found: Sequence[Cell]) -> list[Cell]:
  for number in numbers:
    if number not in range(len(found)):
      raise ConfigError(f"config.scaling.cells: {number!r}, expected numbers of 0 to {len(found) - 1}")
  return [found[number] for number in dict.fromkeys(numbers)] if numbers else list(found)


def _write_cells(found: Sequence[Cell], builds: Sequence[str], path: pathlib.Path) -> None:
  """What there is to run, for a shell: a line for each dataset to build first, then a line a cell."""
  columns = ("number", "dataset", "fold", "model", "size", "participants", "days", "steps", "seed")
  lines: list[list[Any]] = [["build", *[""] * (len(columns) + 2), command] for command in builds]
  for cell in found:
    values = [getattr(cell, column) for column in columns]
    commands = " && ".join(map(job_runner.spoken, cell.commands))
    lines.append([*values, cell.result.exists(), f"{cell.seconds:.0f}", cell.folder, commands])
  write_rows(path, (*columns, "done", "seconds", "folder", "commands"), lines)
