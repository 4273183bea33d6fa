"""LSM-1 of the published LSM-2 size, beside lsm2_base: same sizes, data and budget; see lsm1_xs.py.

python -m aim.main --config=experiments/lsm1_base.py --workdir=runs/lsm1_base
"""

from experiments import lsm1_xs, lsm2_base


def get_config():
  return lsm1_xs.as_lsm1(lsm2_base.get_config())
