"""The schema of LSM-2's watch: 26 minute aggregates, in the order of the paper's channel table.

Names, sensors and reference statistics are those of the released data. Many accelerometer features are 8-bit codes
(0 to 255) of log-scaled quantities and have no unit.
"""

from __future__ import annotations

from data_pipelines.schema import Channel, Schema

# name, unit, sensor, mean and SD of the released data (over observed minutes, in the unit given)
_TABLE = (
  ("heart_rate", "bpm", "PPG", 75.96, 16.19),
  ("heart_rate_at_rest", "bpm", "PPG", 82.87, 10.87),
  ("rr_percent_valid", "", "PPG", 0.2715, 0.2762),
  ("rr_80th_percentile", "ms", "PPG", 828.9, 108.4),
  ("rr_20th_percentile", "ms", "PPG", 734.6, 88.41),
  ("rr_median", "ms", "PPG", 780.9, 94.87),
  ("shannon_entropy_rr", "", "PPG", 3.295, 0.4648),
  ("shannon_entropy_rr_differences", "", "PPG", 2.981, 0.4882),
  ("rmssd", "ms", "PPG", 34.19, 23.78),
  ("sdnn", "ms", "PPG", 45.34, 24.39),
  ("step_count", "steps/min", "ACC", 5.168, 18.89),
  ("jerk_autocorrelation", "", "ACC", 203.5, 30.06),
  ("log_energy", "", "ACC", 53.08, 49.65),
  ("log_energy_ratio", "", "ACC", 44.85, 22.97),
  ("covariance_condition", "", "ACC", 43.41, 13.95),
  ("zero_crossing_sd", "", "ACC", 155.2, 28.24),
  ("zero_crossing_average", "", "ACC", 51.00, 37.48),
  ("axis_mean", "", "ACC", 123.2, 21.47),
  ("kurtosis", "", "ACC", 105.6, 66.85),
  ("sleep_coefficient", "", "ACC", 7.262, 5.395),
  ("altimeter_sd", "", "ALT", 0.0042, 0.0597),
  ("skin_conductance_level", "uS", "EDA", 4.744, 12.91),
  ("skin_conductance_slope", "uS/h", "EDA", 3.244, 1.822),
  ("lead_contact_counts", "counts", "EDA", 226.5, 67.33),
  ("skin_temperature", "C", "TEMP", 31.47, 1.700),
  ("skin_temperature_slope", "C/h", "TEMP", 0.2656, 17.27),
)

LSM2_SCHEMA = Schema(
  minutes_per_step=1,
  channels=tuple(Channel(name=name, unit=unit, sensor=sensor) for name, unit, sensor, _, _ in _TABLE),
)

# Channel name -> published mean and SD, in the channel's unit.
LSM2_REFERENCE: dict[str, tuple[float, float]] = {name: (mean, sd) for name, _, _, mean, sd in _TABLE}

# The classes of LSM-2's activity recognition, most common first. Bouts of them never overlap.
LSM2_ACTIVITIES = (
  "walk", "bike", "sports", "run", "aerobics", "elliptical", "spinning", "weightlifting", "swim", "hike",
  "tennis", "CrossFit", "pilates", "stairclimber", "dancing", "indoor climbing", "golf", "skiing",
  "snowboarding", "kayaking",
)  # fmt: skip
