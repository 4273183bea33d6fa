"""LSM-2 beside LSM-1 and the imputers on real days of people never seen: each fold of people is held out once.

python -m aim.main --mode=compare --config=experiments/compare_real.py --workdir=runs/compare_real

Wants ../shared/data (or --config.compare.inputs="('mine.npz:5',)"). Two CPU cores: 42 minutes with
--config.compare.jobs=2.
"""

from experiments import real_days

DATA = "../shared/data"


def get_config():
  config = real_days.get_config()
  config.compare.models = ("experiments/real_days.py", "experiments/lsm1_real.py")
  config.compare.inputs = (f"{DATA}/nhanes.npz:5", f"{DATA}/t1d_uom.npz:4", f"{DATA}/mss.npz:4")
  config.compare.common = ("--config.evaluate.days=150",)
  config.compare.modes = ("evaluate", "probe")
  return config
