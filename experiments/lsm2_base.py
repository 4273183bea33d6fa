"""LSM-2 as published: 24.6M parameters, batch 4096, 50,000 steps.

  python -m aim.main --config=experiments/lsm2_base.py --workdir=runs/base

Hardware: a TPU slice or a GPU box; on a CPU it tells how long a step would take. Without --config.data.name it trains
on the simulated cohort. Not yet run to its end by us: no expected loss to state.
"""

from experiments import default


def get_config():
  config = default.get_config()
  return config
