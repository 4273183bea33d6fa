"""LSM-2 with the means of the person's other days beside LSM-1, on the real days of people never seen, three seeds.

  python -m aim.main --mode=compare --config=compare_context --workdir=runs/compare_context

It needs the npz files of ../shared/data, or --config.compare.inputs="('mine.npz:4',)" of people with many days.

Hardware and time: one CPU core, 96 minutes; a repeated command goes on where it stopped.
Result (2026-11-29, docs/results/compare_context.md): 2 lost channels 21 % (t1d_uom) and 38 % (mss) below LSM-1; best,
or within chance of the best, in 42 of 43 rows, in each seed.
"""

from experiments import compare_real, real_days


def get_config():
  config = compare_real.get_config()
  config.compare.models = ("experiments/real_days_context.py", "experiments/lsm1_real.py")
  config.compare.inputs = (f"{compare_real.DATA}/mss.npz:4", f"{compare_real.DATA}/t1d_uom.npz:4")
  config.compare.common = ("--config.evaluate.days=150", "--config.total_steps=700", real_days.BEFORE)
  config.compare.seeds = (0, 1, 2)
  config.compare.modes = ("evaluate",)
  return config
