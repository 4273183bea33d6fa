"""LSM-1 of size XS, beside lsm2_xs: same sizes, data and budget.

python -m aim.main --config=experiments/lsm1_xs.py --workdir=runs/lsm1_xs

A plain masked autoencoder (Narayanswamy et al. 2024): days are imputed first, patches span 10 minutes x 5 channels,
80 % of them are hidden at random, nothing is inherited-missing, and the loss is on all that is hidden, imputed or not.
"""

from experiments import lsm2_xs


def get_config():
  return as_lsm1(lsm2_xs.get_config())


def as_lsm1(config):
  """What makes a config of LSM-2 one of LSM-1."""
  config.name = "LSM-1"
  config.data.impute = "linear"
  config.model.patch_channels = 5
  config.model.observed_flags = False  # all is observed
  config.masking.random.weight = 1.0
  config.masking.temporal.weight = 0.0
  config.masking.sensor.weight = 0.0
  return config
