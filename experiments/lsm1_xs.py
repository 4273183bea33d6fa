"""LSM-1 of size XS, beside lsm2_xs: same sizes, data and budget.

  python -m aim.main --config=lsm1_xs --config.data.name=mine --workdir=runs/lsm1_xs

A plain masked autoencoder (Narayanswamy et al. 2024). Days are imputed before the model sees them, a patch spans 10
minutes x 5 channels, and 80 % of the patches are hidden at random. Nothing is inherited-missing, and the loss covers
all that is hidden, imputed or not.

Hardware: CPU cores or one GPU. Time and result: not measured at these 10,000 steps; beside LSM-2 at 600 and 1,400 steps
see compare_simulated and compare_real.
"""

from experiments import lsm2_xs


def get_config():
  return as_lsm1(lsm2_xs.get_config())


def as_lsm1(config):
  """Turns a config of LSM-2 into one of LSM-1, in place, and returns it."""
  config.name = "LSM-1"
  config.data.impute = "linear"
  config.model.patch_channels = 5
  config.model.observed_flags = False  # after imputation every value is observed
  config.model.decoder.tokens = "all"  # as published
  config.masking.random.update({"weight": 1.0, "unit_minutes": 0})
  for strategy in ("temporal", "sensor", "gaps"):
    config.masking[strategy].weight = 0.0
  return config
