"""Turns exports of watches, apps and studies into days on a grid, from which data_pipelines.build makes a dataset.

From an export to day windows:

  command              flags of `python -m data_pipelines.build --source=...`, and what they do
  options              all choices of an import in one record, with labels_csv and anonymity
  imported_source      runs the steps below, and is the `Source` of days that data_pipelines.build reads

  reading/             opens untrusted files (export_files, input_files, csv_batches); knows units, clocks and signals
  importers/           one format each: yields readings (reading/readings.py) and counts rows (reading/account.py)
  gridding/spool       keeps the readings on disk; spool_reader reads them back by person and time
  gridding/monthly_grid  puts them on days, a month at a time: moves them to the wall clock (columns), combines them
                       into one value per step (step_values) and infers wear (wear_time), as the recipe says (recipe)
  gridding/spool_to_days  does this for every person, and keeps the days on disk (day_store)
  day_events           puts workouts and other labelled stretches on these days
  account_summary      prints how many rows were read, kept and dropped, and why

A new importer is a module in importers/ with a class that follows reading/importer.py, and a line in
importers/__init__.py that gives it its --source name. CONTRIBUTING.md lists its tests and documents.
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
