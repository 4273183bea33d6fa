"""Importers by the name of their --source."""

from __future__ import annotations

from data_pipelines.importers.apple import Apple
from data_pipelines.importers.samsung import Samsung
from data_pipelines.readings import Importer

IMPORTERS: dict[str, Importer] = {
  "apple": Apple(),
  "samsung": Samsung(),
}
