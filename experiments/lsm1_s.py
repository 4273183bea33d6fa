"""LSM-1 of size S, beside lsm2_s: same sizes, data and budget; see lsm1_xs.

  python -m aim.main --config=lsm1_s --config.data.name=mine --workdir=runs/lsm1_s

Hardware: one GPU. Time and result: not measured.
"""

from experiments import lsm1_xs, lsm2_s


def get_config():
  return lsm1_xs.as_lsm1(lsm2_s.get_config())
