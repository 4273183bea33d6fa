"""LSM-1 at the published LSM-2 size, beside lsm2_base: same sizes, data and budget; see lsm1_xs.

  python -m aim.main --config=lsm1_base --config.data.name=mine --workdir=runs/lsm1_base

Hardware: a TPU slice or GPU machine. Time and result: not measured.
"""

from experiments import lsm1_xs, lsm2_base


def get_config():
  return lsm1_xs.as_lsm1(lsm2_base.get_config())
