"""LSM-2 beside LSM-1 and the imputers on the real days of people never seen; each fold of people is held out once.

  python -m aim.main --mode=compare --config=compare_real --workdir=runs/compare_real

It needs the npz files of ../shared/data, or --config.compare.inputs="('mine.npz:5',)".

Hardware and time: two CPU cores, 42 minutes with --config.compare.jobs=2.
Result (2026-11-24, docs/results/compare_real.md): LSM-2 is below LSM-1 in 56 of 60 tasks of three datasets, 48 beyond
chance; above it beyond chance in 2.
"""

from experiments import real_days

DATA = "../shared/data"
# The figures are of the skip that real_days had before it was "smooth"; its own figures stand in real_days.md.
SKIP = ("--config.model.skip_evidence=line", real_days.BEFORE)


def get_config():
  config = real_days.get_config()
  config.compare.models = ("experiments/real_days.py", "experiments/lsm1_real.py")
  config.compare.inputs = (f"{DATA}/nhanes.npz:5", f"{DATA}/t1d_uom.npz:4", f"{DATA}/mss.npz:4")
  config.compare.common = ("--config.evaluate.days=150", *SKIP)
  config.compare.modes = ("evaluate", "probe")
  return config
