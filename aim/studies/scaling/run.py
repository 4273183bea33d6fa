"""--mode=scaling: how the loss on people never seen falls with people, hours, parameters and compute.

A cell is one model of one size, trained for some steps on some of the people and days: a folder, named by what it is,
with two commands, the second of which writes heldout.json. Any scheduler can run cells, by their commands in cells.csv
or by --config.scaling.cells. Finished cells are skipped, and whoever comes last finds all numbers.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from aim.common.config_files import ConfigError
from aim.common.tables import write_rows
from aim.studies import job_runner
from aim.studies.job_runner import Job, StudyDataset, StudyModel
from aim.studies.scaling.curves import Curve, curves
from aim.studies.scaling.figure import draw_scaling
from aim.studies.scaling.points import ScalingCell, points_table, read_points, write_points
from data_pipelines.text_files import counted, json_text, replacing

AXES = {"participants": "participants", "days": "days", "size": "sizes", "steps": "steps"}  # of a cell: config key


def scaling(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Runs the unfinished cells, all or those of config.scaling.cells, then studies whatever is finished.

  Raises:
    UserError: a value or a file of days cannot be used; known before anything is built.
    CellError: a command failed.
  """
  datasets = job_runner.datasets(config, "scaling")
  all_cells = cells(config, datasets, workdir)
  chosen = _chosen(config.scaling.cells, all_cells)
  workdir.mkdir(parents=True, exist_ok=True)
  overview = _CellList(all_cells, datasets, workdir / "cells.csv")
  overview.write()
  unfinished = [cell for cell in chosen if cell not in overview.finished]
  print(
    f"{workdir}: {counted(len(all_cells), 'cell')}, listed in {workdir / 'cells.csv'}; to run now: {len(unfinished)}; "
    f"output: {workdir}/cells/*/log.txt",
    flush=True,
  )
  if unfinished:
    job_runner.build_datasets(datasets, workdir)
    for cell in unfinished:
      if cell.number in overview.unusable and not cell.ran_here:  # otherwise the job runner says so
        print(f"{overview.unusable[cell.number]}; computed again", flush=True)
    job_runner.run(unfinished, "scaling", after=overview.update)
  overview.update()
  finished = overview.finished
  for line in overview.unusable.values():
    print(f"note: {line}; left out until its cell runs again")
  print(f"finished: {len(finished)} of {counted(len(all_cells), 'cell')}")
  if finished:
    study(config.scaling, finished, workdir)


def study(config: ml_collections.ConfigDict, finished: Sequence[ScalingCell], workdir: pathlib.Path) -> list[Curve]:
  """Writes scaling.csv, fits.json and a picture for each dataset; prints the table and the fits.

  Args:
    config: config.scaling.
    finished: cells that have a result.
  """
  points = list(read_points(finished, config.bootstrap))
  if not points:
    print("no cell is finished on all folds")
    return []
  at = {axis: config.at[axis] for axis in config.at}
  fits = list(curves(points, at))
  write_points(points, workdir / "scaling.csv")
  raw = [dataclasses.asdict(curve) | {"line": curve.line()} for curve in fits]
  (workdir / "fits.json").write_text(json_text({"law": "a * x ** -b + c", "at": at, "curves": raw}, indent=1) + "\n")
  written = [workdir / "scaling.csv", workdir / "fits.json"]
  for dataset in dict.fromkeys(point.dataset for point in points):
    path = workdir / f"scaling-{dataset}.png"
    draw_scaling(
      [point for point in points if point.dataset == dataset], [fit for fit in fits if fit.dataset == dataset], path
    )
    written.append(path)
  print(f"\n{points_table(points)}\n")
  for curve in fits:
    print(curve.line())
  print("\n" + "\n".join(map(str, written)))
  return fits


def cells(
  config: ml_collections.ConfigDict, datasets: Sequence[StudyDataset], workdir: pathlib.Path
) -> list[ScalingCell]:
  """All cells of config.scaling on these datasets, in the order they run.

  Raises:
    ConfigError: a value cannot be used.
  """
  grid = config.scaling
  models = _models(grid)
  jobs = itertools.product(datasets, grid.seeds, points(grid), models)
  return [
    _cell(number, dataset, seed, point, model, config, workdir)
    for number, (dataset, seed, point, model) in enumerate(jobs)
  ]


def _models(grid: ml_collections.ConfigDict) -> list[StudyModel]:
  if not grid.models:
    raise ConfigError("config.scaling.models is empty, expected the configs to train, as in experiments/scaling.py")
  models = [StudyModel.parse(entry, grid.common) for entry in grid.models]
  for model in models:
    if not model.reconstructs:
      raise ConfigError(
        f"config.scaling.models: {model.config_name} ({model.name}) is of method {model.method!r}, which reconstructs "
        "nothing"
      )
  if len({model.name for model in models}) < len(models):
    raise ConfigError("config.scaling.models: two of one name; --config.name=... gives one another name")
  return models


def _cell(
  number: int,
  dataset: StudyDataset,
  seed: int,
  point: dict[str, Any],
  model: StudyModel,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
) -> ScalingCell:
  overrides = (*_overrides(point, config.scaling.ladder), f"--config.seed={seed}")
  job = Job.of(model, dataset, config.data.dir, overrides)
  people, days = (point[axis] or "all" for axis in ("participants", "days"))
  what = f"{dataset.name}-{model.name}-{point['size']}-people_{people}-days_{days}-steps_{point['steps']}-seed{seed}"
  folder = workdir / "cells" / f"{job_runner.slug(what)}-{job.fingerprint('heldout')}"
  commands = (job.command("pretrain", folder), job.command("heldout", folder))
  return ScalingCell(
    number, dataset.label, dataset.name, model.name, **point, seed=seed, folder=folder, commands=commands
  )


def points(grid: ml_collections.ConfigDict) -> list[dict[str, Any]]:
  """{participants, days, size, steps} of every cell of a model, each once.

  Raises:
    ConfigError: a value cannot be used.
  """
  values = {axis: list(grid[key]) for axis, key in AXES.items()}
  _check(grid, values)
  if grid.grid == "all":
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
  at = {axis: [grid.at[axis]] for axis in AXES}
  planes = (("participants",), ("days",), ("size", "steps"))
  unique_points: dict[tuple, None] = {}
  for plane in planes:
    varied = {axis: values[axis] if axis in plane else at[axis] for axis in AXES}
    unique_points |= dict.fromkeys(itertools.product(*varied.values()))
  return [dict(zip(AXES, point, strict=True)) for point in unique_points]


def _check(grid: ml_collections.ConfigDict, values: dict[str, list]) -> None:
  for axis, key in AXES.items():
    if grid.at[axis] not in values[axis]:
      raise ConfigError(f"config.scaling.at.{axis} is {grid.at[axis]!r}, expected one of config.scaling.{key}")
  for size in values["size"]:
    if size not in grid.ladder:
      raise ConfigError(f"config.scaling.sizes: {size!r}, expected sizes of the ladder: {', '.join(grid.ladder)}")


def _overrides(point: dict[str, Any], ladder: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields the overrides that turn a model's config into that of a cell."""
  encoder, decoder, learning_rate = ladder[point["size"]]
  for tower, sizes in (("encoder", encoder), ("decoder", decoder)):
    for key, size in zip(("width", "mlp", "heads", "layers"), sizes, strict=True):
      yield f"--config.model.{tower}.{key}={size}"
  yield f"--config.optimizer.learning_rate={learning_rate}"
  yield f"--config.total_steps={point['steps']}"
  yield f"--config.data.max_participants={point['participants']}"
  yield f"--config.data.max_days={point['days']}"


def _chosen(numbers: Sequence[int], all_cells: Sequence[ScalingCell]) -> list[ScalingCell]:
  for number in numbers:
    if number not in range(len(all_cells)):
      raise ConfigError(f"config.scaling.cells: {number!r}, expected numbers of 0 to {len(all_cells) - 1}")
  return [all_cells[number] for number in dict.fromkeys(numbers)] if numbers else list(all_cells)


class _CellList:
  """cells.csv: for a shell, a row per dataset to build first, then a row per cell; and which cells are finished.

  Attributes:
    finished: cells whose result can be used, in the order of all cells.
    unusable: {cell's number: why its result cannot}, of those that have one.
  """

  def __init__(self, cells: Sequence[ScalingCell], datasets: Sequence[StudyDataset], path: pathlib.Path) -> None:
    """Reads which cells are finished; whoever runs them may finish more."""
    self._cells, self._path = cells, path
    self._builds = [dataset.build.text for dataset in datasets if dataset.build]
    self.finished: list[ScalingCell] = []
    self.unusable: dict[int, str] = {}
    self._look()

  def update(self) -> None:
    """Looks for cells that are finished since, and writes the file."""
    self._look()
    self.write()

  def _look(self) -> None:
    open_cells = [cell for cell in self._cells if cell not in self.finished]
    why = {cell.number: cell.why_unfinished() for cell in open_cells}
    self.finished = [cell for cell in self._cells if not why.get(cell.number)]
    results = {cell.number for cell in open_cells if cell.result.exists()}
    self.unusable = {number: line for number, line in why.items() if line and number in results}

  def write(self) -> None:
    """Writes the file, in one piece or not at all."""
    columns = ("number", "dataset", "fold", "model", "size", "participants", "days", "steps", "seed")
    lines: list[list[Any]] = [["build", *[""] * (len(columns) + 2), build] for build in self._builds]
    for cell in self._cells:
      values = [getattr(cell, column) for column in columns]
      commands = " && ".join(command.text for command in cell.commands)
      lines.append([*values, cell in self.finished, f"{cell.seconds:.0f}", cell.folder, commands])
    with replacing(self._path) as unfinished:
      write_rows(unfinished, (*columns, "done", "seconds", "folder", "commands"), lines)
