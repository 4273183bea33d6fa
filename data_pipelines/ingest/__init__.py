"""Turns the exports of watches, apps and studies into days on a grid, which data_pipelines.build makes a dataset of.

From an export to day windows:

  command           flags of `python -m data_pipelines.build --source=...`, and what they do
  options           all choices of an import in one record; labels_csv and anonymity are two of them
  reading/          opens untrusted files (export_files, input_files, csv_batches), knows units, clocks and signals
  importers/        one module per format: yields readings (reading/readings.py), counts rows (reading/account.py)
  gridding/spool    keeps the readings on disk, sorted by person and time
  gridding/         moves them to the wall clock (columns), one value per step (step_values), one month at a time
                    (monthly_grid), and infers when the device was worn (wear_time); recipe.py holds all its settings
  gridding/day_store  keeps the days on disk until they are built
  day_events        puts workouts and other labelled stretches on these days
  imported_source   runs all of this, and is the `Source` of days that data_pipelines.build reads
  account_summary   prints how many rows were read, kept and dropped, and why

A new importer is a module in importers/ with a class that follows reading/importer.py, and a line in
importers/__init__.py that gives it its --source name. Nothing else has to change.
"""

from data_pipelines.ingest.anonymity import Anonymity
from data_pipelines.ingest.imported_source import ImportedSource
from data_pipelines.ingest.labels_csv import LabelledStretch, ParticipantTable, load_events
from data_pipelines.ingest.options import ImportOptions

__all__ = [
  "Anonymity",
  "ImportOptions",
  "ImportedSource",
  "LabelledStretch",
  "ParticipantTable",
  "load_events",
]
