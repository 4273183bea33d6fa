"""SimCLR (Chen et al. 2020) on the encoder of size XS, beside lsm2_xs and lsm1_xs: same data and budget.

python -m aim.main --config=experiments/simclr_xs.py --workdir=runs/simclr_xs

Days and patches are LSM-1's: imputed by a line, 10 minutes x 5 channels; --config.data.impute=none leaves holes holes.
It embeds days and reconstructs nothing.
"""

from experiments import lsm1_xs


def get_config():
  config = lsm1_xs.get_config()
  config.name = "SimCLR"
  config.method = "simclr"
  return config
