"""Importers of vendors' exports, by the name of their --source.

Each one only reads: everything that all sources share (units, clocks, the grid, wear) is in reading/ and gridding/. A
new importer is a module here, with a class like the others and an entry in IMPORTERS.
"""

from collections.abc import Mapping

from data_pipelines.ingest.importers.accelerometers.accelerometer import Accelerometer
from data_pipelines.ingest.importers.apple import Apple
from data_pipelines.ingest.importers.apps.gadgetbridge import Gadgetbridge
from data_pipelines.ingest.importers.apps.google_fit import GoogleFit
from data_pipelines.ingest.importers.apps.huawei import Huawei
from data_pipelines.ingest.importers.apps.mi_fitness import MiFitness
from data_pipelines.ingest.importers.apps.oura import Oura
from data_pipelines.ingest.importers.apps.polar import Polar
from data_pipelines.ingest.importers.apps.withings import Withings
from data_pipelines.ingest.importers.apps.zepp import Zepp
from data_pipelines.ingest.importers.fitabase import Fitabase
from data_pipelines.ingest.importers.fitbit import Fitbit
from data_pipelines.ingest.importers.garmin import Garmin
from data_pipelines.ingest.importers.health_connect import HealthConnect
from data_pipelines.ingest.importers.long_table import LongTable
from data_pipelines.ingest.importers.mhealthdata import MHealthData
from data_pipelines.ingest.importers.nhanes import Nhanes
from data_pipelines.ingest.importers.samsung import Samsung
from data_pipelines.ingest.reading.importer import Importer

IMPORTERS: Mapping[str, Importer] = {
  "fitbit": Fitbit(),
  "fitabase": Fitabase(),
  "apple": Apple(),
  "garmin": Garmin(),
  "samsung": Samsung(),
  "health_connect": HealthConnect(),
  "google_fit": GoogleFit(),
  "oura": Oura(),
  "withings": Withings(),
  "polar": Polar(),
  "huawei": Huawei(),
  "zepp": Zepp(),
  "mi_fitness": MiFitness(),
  "gadgetbridge": Gadgetbridge(),
  "mhealthdata": MHealthData(),
  "accelerometer": Accelerometer(),
  "nhanes": Nhanes(),
  "long_table": LongTable(),
}
