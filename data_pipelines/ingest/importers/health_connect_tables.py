"""Health Connect's tables and columns, and what its codes mean; health_connect.py reads them."""

from __future__ import annotations

import dataclasses

import numpy as np

# Codes of android.health.connect.datatypes.Device, most trusted first; a phone in a pocket comes last.
TRUST = (7, 1, 6, 4, 11, 10, 5, 9, 12, 13, 0, 2, 8, 3)
TYPES = (
  *("unknown", "watch", "phone", "scale", "ring", "head_mounted", "fitness_band", "chest_strap", "smart_display"),
  *("medical_device", "glasses", "hearable", "fitness_machine", "fitness_equipment"),
)

# SleepSessionRecord.StageType: unknown, awake, sleeping, out of bed, light, deep, REM, awake in bed
ASLEEP = np.array([np.nan, 0, 1, 0, 1, 1, 1, 0])

# ExerciseSessionType from 0 on. The codes of the Jetpack library differ.
EXERCISES = """
  unknown badminton baseball basketball biking biking_stationary boot_camp boxing calisthenics cricket
  dancing exercise_class fencing football_american football_australian frisbee_disc golf guided_breathing
  gymnastics handball high_intensity_interval_training hiking ice_hockey ice_skating martial_arts paddling
  paragliding pilates racquetball rock_climbing roller_hockey rowing rugby running running_treadmill
  sailing scuba_diving skating skiing snowboarding snowshoeing soccer softball squash stair_climbing
  strength_training stretching surfing swimming_open_water swimming_pool table_tennis tennis volleyball
  walking water_polo weightlifting wheelchair yoga other stair_climbing_machine elliptical rowing_machine
"""


@dataclasses.dataclass(frozen=True)
class Kind:
  """Table and columns of the values of a signal, or of the times of a stretch.

  Attributes:
    signal: our name for it.
    unit: the unit of the values in the file.
    table, value: table and column of the values; the parent's column `plus` is added to them.
    times: columns of start, end and offset; the offset is read from the parent if there is one.
    parent: the table that holds app, device and offset if `table` does not.
  """

  signal: str
  unit: str
  table: str
  value: str
  times: tuple[str, str, str] = ("start_time", "end_time", "start_zone_offset")
  parent: str = ""
  plus: str = ""


_MOMENT = ("time", "time", "zone_offset")
_SAMPLE = ("epoch_millis", "epoch_millis", "start_zone_offset")
_STAGE = ("stage_start_time", "stage_end_time", "start_zone_offset")
_HRV = "heart_rate_variability"
KINDS = (
  Kind("heart_rate", "bpm", "heart_rate_record_series_table", "beats_per_minute", _SAMPLE, "heart_rate_record_table"),
  Kind("steps", "steps", "steps_record_table", "count"),
  Kind("distance", "m", "distance_record_table", "distance"),
  Kind("floors", "count", "floors_climbed_record_table", "floors"),
  Kind("calories", "cal", "total_calories_burned_record_table", "energy"),
  Kind("active_calories", "cal", "active_calories_burned_record_table", "energy"),
  Kind("spo2", "%", "oxygen_saturation_record_table", "percentage", _MOMENT),
  Kind("respiratory_rate", "1/min", "respiratory_rate_record_table", "rate", _MOMENT),
  Kind("hrv_rmssd", "ms", f"{_HRV}_rmssd_record_table", f"{_HRV}_millis", _MOMENT),
  Kind("glucose", "mmol/L", "blood_glucose_record_table", "level", _MOMENT),
  Kind(
    *("skin_temperature", "C", "skin_temperature_delta_table", "delta"),
    *(_SAMPLE, "skin_temperature_record_table", "baseline"),
  ),
  Kind("asleep", "", "sleep_stages_table", "stage_type", _STAGE, "sleep_session_record_table"),
)
STRETCHES = (
  Kind("sleep", "", "sleep_session_record_table", "row_id"),
  Kind("", "", "exercise_session_record_table", "exercise_type"),
)
APPS, MACHINES = "application_info_table", "device_info_table"
TABLES = [APPS, MACHINES, *(k.table for k in (*KINDS, *STRETCHES)), *(k.parent for k in KINDS)]
