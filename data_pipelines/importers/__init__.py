"""Importers by the name of their --source."""

from collections.abc import Mapping

from data_pipelines.importers.long_table import LongTable
from data_pipelines.readings import Importer

IMPORTERS: Mapping[str, Importer] = {
  "long_table": LongTable(),
}
