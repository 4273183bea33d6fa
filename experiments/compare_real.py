"""LSM-2 beside LSM-1 and the imputers on real days of people never seen: each fold of people is held out once.

python -m aim.main --mode=compare --config=experiments/compare_real.py --workdir=runs/compare_real

Wants ../shared/data (or --config.compare.inputs="('mine.npz:5',)"). Two CPU cores: about an hour and a half.
"""

from experiments import real_days

LSM2 = "experiments/real_days.py"
DATA = "../shared/data"


def get_config():
  config = real_days.get_config()
  config.compare.models = (
    LSM2,
    # The published layout: without the interpolation skip and with the published start.
    f"{LSM2} --config.name='LSM-2, published layout' --config.model.interpolation_skip=False --config.model.qk_init=0.0",
    "experiments/lsm1_real.py",
  )
  config.compare.inputs = (f"{DATA}/t1d_uom.npz:4", f"{DATA}/mss.npz:4", f"{DATA}/nhanes.npz:5")
  config.compare.common = ("--config.total_steps=700",)
  config.compare.modes = ("evaluate", "probe")
  return config
