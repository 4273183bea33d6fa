"""Every config key with its default. All other experiments change values of this one.

The values and what they mean are in each room's defaults.py, beside the code that reads them. The sizes are those of
LSM-2 (24.6M parameters).
"""

from ml_collections import ConfigDict

import aim.evaluation.defaults
import aim.inference.defaults
import aim.model.defaults
import aim.report.defaults
import aim.studies.defaults
import aim.training.defaults

ROOMS = (aim.model, aim.training, aim.inference, aim.evaluation, aim.studies, aim.report)
# The order of the keys in config.json.
KEYS = (
  *("name", "method", "seed", "total_steps", "batch_size", "evaluate_every", "evaluate_days", "form", "sizes"),
  *("data", "model", "masking", "views", "init", "optimizer", "mesh", "checkpoint", "log", "impute"),
  *("evaluate", "probe", "robustness", "compare", "report", "finetune", "scaling"),
)


def get_config() -> ConfigDict:
  defaults = {key: value for room in ROOMS for key, value in room.defaults.defaults().items()}
  return ConfigDict({key: defaults[key] for key in sorted(defaults, key=KEYS.index)})
