"""At how many steps LSM-2 does without its interpolation skip, beside itself with it and LSM-1, on people never seen.

  python -m aim.main --mode=compare --config=compare_steps --workdir=runs/compare_steps

It needs the npz files of ../shared/data, or --config.compare.inputs="('mine.npz:2',)".

Hardware and time: one CPU core, some three hours; a repeated command goes on where it stopped.
Result (2026-11-29, docs/results/steps.md): LSM-2 has converged after 500 steps on nhanes and learns mss by heart;
without the skip it is below LSM-1 in 17 of 17 rows of nhanes at 2,000 steps, and above it in most of mss.
"""

from experiments import compare_ablations, compare_real, real_days

STEPS = (500, 2000, 8000)


def get_config():
  config = compare_ablations.get_config()
  lsm2, lsm1 = f"experiments/real_days.py {real_days.BEFORE}", "experiments/lsm1_real.py"
  without = f"{lsm2} {compare_ablations.CHANGES['without the skip']}"
  config.compare.models = tuple(
    f"{model} --config.name='{name} {steps}' --config.total_steps={steps}"
    for steps in STEPS
    for name, model in (("LSM-2", lsm2), ("LSM-2 without the skip", without), ("LSM-1", lsm1))
  )
  config.compare.inputs = (f"{compare_real.DATA}/mss.npz:2", f"{compare_real.DATA}/nhanes.npz:2")
  config.compare.seeds = (0,)
  config.compare.common = tuple(flag for flag in config.compare.common if "total_steps" not in flag)
  return config
