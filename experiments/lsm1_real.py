"""LSM-1 on real days of one small study, beside real_days: same sizes, data and budget.

python -m aim.main --config=experiments/lsm1_real.py --config.data.name=mine --workdir=runs/mine_lsm1
"""

from experiments import lsm1_xs, real_days


def get_config():
  config = lsm1_xs.as_lsm1(real_days.get_config())
  config.model.patch_minutes = (
    30  # the published 10 minutes x 5 channels are two numbers a channel in five-minute steps
  )
  config.model.interpolation_skip = False  # its published layout
  config.model.qk_init = 0.0
  config.masking.random.unit_minutes = 0
  return config
