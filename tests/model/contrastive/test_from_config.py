"""Config values of contrastive methods that are refused."""

import pytest

from aim.common.config_files import ConfigError
from aim.model import from_config
from aim.model.contrastive.from_config import view_changes, view_method
from experiments import dino_xs
from tests.model.contrastive.test_views import SCHEMA


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"method": "byol"}, "config.method is 'byol', expected one of mae, simclr, dino, msn"),
    ({"optimizer.ema": 0.9}, "config.optimizer.ema is 0.9, expected 0 for dino"),
    ({"views.prototypes": 1}, "config.views.prototypes is 1, expected at least 2 for dino"),
    ({"views.global_share": 1.5}, "config.views.global_share is 1.5, expected a number above 0 and at most 1"),
    ({"method": "simclr", "batch_size": 1}, "config.batch_size is 1, expected at least 2 for simclr"),
  ],
)
def test_bad_values_are_refused(changes, message):
  config = dino_xs.get_config()
  config.update_from_flattened_dict({"model.patch_minutes": 120} | changes)
  with pytest.raises(ConfigError, match=message):
    a = from_config.architecture(config, SCHEMA)
    view_method(config, a)
    view_changes(config, SCHEMA)
