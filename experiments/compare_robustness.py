"""Why LSM-2 loses no less than LSM-1 when a sensor or six hours are removed: its explanations, one at a time.

  python -m aim.main --mode=compare --config=compare_robustness --workdir=runs/compare_robustness

This pools tokens as published, by one mean. What pooling by channel does, in a second table from the same models:

  python -m aim.main --mode=compare --config=compare_robustness --workdir=runs/compare_robustness \\
      --config.compare.common="$(python -m experiments.compare_robustness channel)"

Hardware and time: not measured.
"""

import sys

from experiments import compare_simulated

POOL = "--config.probe.pool="
LSM1 = "experiments/lsm1_xs.py --config.optimizer.ema=0.99 --config.optimizer.learning_rate=2e-3"


def common(pool):
  """Flags of all models, with one of the values of config.probe.pool."""
  return (*compare_simulated.SIZES, *compare_simulated.BUDGET, compare_simulated.FAST, POOL + pool)


def get_config():
  config = compare_simulated.get_config()
  config.compare.models = (
    compare_simulated.LSM2,
    # Without masks of whole sensors, pretraining never shows a day that lost one.
    f"{compare_simulated.LSM2} --config.name='LSM-2 without sensor masks' --config.masking.sensor.weight=0.0",
    LSM1,  # as published: it sees a lost sensor as the constant that it was filled with
    f"{LSM1} --config.name='LSM-1, lost patches unseen' --config.probe.imputed_patches=unseen",
  )
  config.compare.common = common("mean")
  config.compare.seeds = (0, 1, 2)
  config.compare.modes = ("robustness",)
  return config


if __name__ == "__main__":
  print(common(*sys.argv[1:]))
