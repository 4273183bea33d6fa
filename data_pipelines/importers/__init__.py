"""Importers by the name of their --source."""

from data_pipelines.importers.fitabase import Fitabase
from data_pipelines.readings import Importer

IMPORTERS: dict[str, Importer] = {
  "fitabase": Fitabase(),
}
