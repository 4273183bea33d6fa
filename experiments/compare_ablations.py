"""The effect of each part of real_days: LSM-2 beside itself without it and LSM-1, on real days of people never seen.

  python -m aim.main --mode=compare --config=compare_ablations --workdir=runs/compare_ablations

It needs the npz files of ../shared/data, or --config.compare.inputs="('mine.npz:2',)".

Hardware and time: one CPU core, two and a half hours; a repeated command goes on where it stopped.
Result (2026-11-29, docs/results/ablations.md): the skip, the rule for lost tokens and minutes hidden in patches lower
the error, the skip in most tasks; observed flags do nothing. Without the skip LSM-2 is above LSM-1 in 29 of 43 rows.
"""

from experiments import compare_real, compare_simulated, real_days

# Each line changes one thing.
CHANGES = {
  "without observed flags": "--config.model.observed_flags=False",
  "half a token observed": "--config.masking.min_observed_share=0.5",
  "without the skip": "--config.model.interpolation_skip=False",
  "evidence after the decoder": "--config.model.evidence_embedding=after",
  "without qk_init": "--config.model.qk_init=0.0",
  "whole patches hidden": "--config.masking.gaps.weight=0.0 --config.masking.random.unit_minutes=0",
}


def get_config():
  config = compare_real.get_config()
  base = f"experiments/real_days.py {real_days.BEFORE}"
  changed = (f"{base} --config.name='{name}' {flags}" for name, flags in CHANGES.items())
  config.compare.models = (base, *changed, "experiments/lsm1_real.py")
  config.compare.inputs = (f"{compare_real.DATA}/mss.npz:2", f"{compare_real.DATA}/t1d_uom.npz:2")
  config.compare.common = ("--config.evaluate.days=150", "--config.total_steps=500", compare_simulated.FAST)
  config.compare.seeds = (0, 1, 2)
  config.compare.modes = ("evaluate",)
  return config
