"""Datasets from tables in memory: pandas, Arrow, polars, xarray."""

from __future__ import annotations

import datetime
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from data_pipelines.build import build
from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.in_memory.arrays import check_units
from data_pipelines.in_memory.temporary_files import temporary_files
from data_pipelines.ingest import account_summary
from data_pipelines.ingest.gridding.recipe import Recipe
from data_pipelines.ingest.imported_source import ImportedSource
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.labels_csv import ParticipantTable
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.input_files import ExportSet
from data_pipelines.source import NOBODY
from data_pipelines.splits import Split

_INDEX = ("participant", "time", "channel")  # names of index levels that are columns


def from_frame(
  frame: Any,
  data_dir: str | os.PathLike,
  name: str,
  *,
  participant: str | None = None,
  units: Mapping[str, str] | None = None,
  labels: Any = None,
  timezone: str | None = None,
  minutes_per_step: int | None = None,
  max_missing: float | None = None,
  recipe: Recipe | str | os.PathLike | None = None,
  split: Split | None = None,
  overwrite: bool = False,
) -> Dataset:
  """Builds a dataset from a table of readings, or opens it if it was built from the same one; prints its account.

  The table is one that `--source=long_table` reads (see data_pipelines/ingest/importers/long_table.py): either a column
  for each channel, or the columns channel, value and, optionally, unit. A time without a zone is on the wall clock.

  Args:
    frame: a pandas.DataFrame, a pyarrow.Table, an xarray.Dataset or DataArray, or anything with Arrow's stream
      interface (polars, duckdb). Index levels and dimensions called participant, time or channel are columns, and so
      is a DatetimeIndex without a name, which is the time. Other indices are not read.
    data_dir: directory that holds the datasets.
    name: name of the dataset.
    participant: whose readings these are, if the table has no column participant.
    units: units of columns that are not in the channel's own unit, {"glucose": "mg/dL"}. Only for a table with a
      column for each channel.
    labels: a table of the same kinds with the column participant and a column per label; timezone is no label.
    timezone: IANA zone of people whose times are in UTC.
    minutes_per_step, max_missing: as the flags of data_pipelines.build.
    recipe: what becomes of readings, as the flag; None uses the default.
    split, overwrite: as in data_pipelines.build.build.

  Raises:
    SchemaError: the table cannot be used; the message names the column or row.
    DatasetError: another dataset of this name exists.
  """
  table = _with_participant(_arrow(frame, "frame"), participant)
  _check_columns(table)
  options: dict[str, Any] = {"minutes_per_step": minutes_per_step, "max_missing": max_missing}
  options["timezone"] = timezone or _zone(table)
  if recipe is not None:
    options["recipe"] = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
  with temporary_files(frame="frame.parquet", labels="labels.csv", readings="readings") as paths:
    if labels is not None:
      options["people"] = _people(labels, paths["labels"])
    try:
      pq.write_table(_with_units(table, units or {}), paths["frame"])
    except (pa.ArrowException, OSError) as error:
      raise SchemaError(f"frame: cannot be stored: {str(error).splitlines()[0]}") from None
    export_set = ExportSet(paths["frame"], LongTable())
    sources: list[ImportedSource] = []

    def source() -> ImportedSource:
      sources.append(ImportedSource(export_set, paths["readings"], ImportOptions(**options)))
      return sources[0]

    request = {
      "source": "from_frame",
      "frame": [digest for _, digest in sorted(export_set.digests.items())],
      "labels": paths["labels"].read_text() if labels is not None else None,
      **{key: options[key] for key in ("timezone", "minutes_per_step", "max_missing")},
      "recipe": options["recipe"].to_yaml(comments=False) if recipe is not None else None,
    }
    dataset = build(source, data_dir, name, split=split, request=request, overwrite=overwrite)
    for built in sources:
      print(*account_summary.summary_lines(built.public_account), sep="\n")
  return dataset


def _arrow(frame: Any, what: str) -> pa.Table:
  """The table as Arrow's."""
  if hasattr(frame, "to_dataframe"):  # xarray
    frame = (frame if hasattr(frame, "data_vars") else frame.rename(frame.name or "value")).to_dataframe()
  try:
    if isinstance(frame, pd.DataFrame):
      return pa.Table.from_pandas(_with_texts(_with_index(frame)), preserve_index=False).replace_schema_metadata(None)
    if isinstance(frame, pa.Table) or hasattr(frame, "__arrow_c_stream__"):
      return pa.table(frame).replace_schema_metadata(None)
  except SchemaError:
    raise
  except (pa.ArrowException, TypeError, ValueError) as error:
    raise SchemaError(f"{what}: is no table of columns of one type each: {str(error).splitlines()[0]}") from None
  raise SchemaError(f"{what}: is {type(frame).__name__}, expected a table of pandas, Arrow, polars or xarray")


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
  """The frame with those levels of its index as columns that hold people, times or channels."""
  unnamed = [column for column in frame.columns if not isinstance(column, str)]
  if unnamed:
    raise SchemaError(f"frame: has a column {unnamed[0]!r}, expected names that are text")
  levels = list(frame.index.names)
  if isinstance(frame.index, pd.DatetimeIndex) and levels == [None] and "time" not in frame:
    return frame.rename_axis("time").reset_index()
  kept = [level for level in levels if level in _INDEX and level not in frame]
  return frame.reset_index(level=kept).reset_index(drop=True) if kept else frame.reset_index(drop=True)


def _with_texts(frame: pd.DataFrame) -> pd.DataFrame:
  """The frame with times of several zones, or with and without one, as texts: a column of Arrow has a single zone."""
  mixed = [name for name in ("time", "end") if name in frame and frame[name].dtype == object]
  return frame.assign(**{name: [_text(value) for value in frame[name]] for name in mixed})


def _text(value: Any) -> Any:
  if value is pd.NaT:
    return None
  return value.isoformat() if isinstance(value, datetime.datetime) else value


def _with_participant(table: pa.Table, participant: str | None) -> pa.Table:
  if "participant" not in table.column_names:
    if participant is None:
      raise SchemaError("frame: has no column participant; whose readings are these? Pass participant=...")
    return table.append_column("participant", pa.repeat(pa.scalar(participant), table.num_rows))
  if participant is not None:
    raise SchemaError(f"frame: has a column participant, so participant={participant!r} cannot be meant")
  column = table["participant"]
  if column.null_count:
    row = column.is_null().index(True).as_py()
    raise SchemaError(
      f"frame: row {row} has no participant; of {table.num_rows:,} rows {column.null_count:,} have none"
    )
  texts = column.cast(pa.string())
  if pa.types.is_integer(column.type):  # an id is text, and 7 is not 7.0
    return table.set_column(table.column_names.index("participant"), "participant", texts)
  for text in NOBODY.intersection(pc.unique(texts).to_pylist()):
    raise SchemaError(f"frame: participant {text!r} of {pc.sum(pc.equal(texts, text))} rows is nobody's name")
  return table


def _check_columns(table: pa.Table) -> None:
  names = set(table.column_names)
  if "time" not in names or len(names - {"participant", "time", "end", "device"}) == 0:
    columns = ", ".join(table.column_names)[:300]
    raise SchemaError(f"frame: has the columns {columns}, expected time, and channel and value or a column per channel")


def _with_units(table: pa.Table, units: Mapping[str, str]) -> pa.Table:
  """The table with the unit of a channel in the name of its column, where LongTable looks for it."""
  check_units(units)
  unknown = [channel for channel in units if channel not in table.column_names]
  if unknown:
    raise SchemaError(f"frame: units has {unknown[0]!r}, expected a column; there are {', '.join(table.column_names)}")
  return table.rename_columns([f"{name} [{units[name]}]" if name in units else name for name in table.column_names])


def _zone(table: pa.Table) -> str | None:
  """The time zone of the column time, if it has one that is a place."""
  kind = table.schema.field("time").type if "time" in table.column_names else None
  zone = kind.tz if kind is not None and pa.types.is_timestamp(kind) else None
  return zone if zone and "/" in zone else None


def _people(labels: Any, path: pathlib.Path) -> ParticipantTable:
  table = _arrow(labels, "labels")
  if "participant" not in table.column_names:
    raise SchemaError(f"labels: have the columns {', '.join(table.column_names)}, expected participant among them")
  table = table.select(["participant", *(name for name in table.column_names if name != "participant")])
  try:
    pyarrow.csv.write_csv(table, path)
  except (pa.ArrowException, OSError) as error:
    raise SchemaError(f"labels: cannot be stored: {str(error).splitlines()[0]}") from None
  return ParticipantTable.load(path)
