"""Importers by the name of their --source."""

from collections.abc import Mapping

from data_pipelines.importers.garmin import Garmin
from data_pipelines.importers.health_connect import HealthConnect
from data_pipelines.readings import Importer

IMPORTERS: Mapping[str, Importer] = {
  "garmin": Garmin(),
  "health_connect": HealthConnect(),
}
