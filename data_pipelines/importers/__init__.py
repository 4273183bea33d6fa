"""Importers by the name of their --source."""

from data_pipelines.importers.long_table import LongTable
from data_pipelines.readings import Importer

IMPORTERS: dict[str, Importer] = {
  "long_table": LongTable(),
}
