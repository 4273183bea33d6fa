"""Why LSM-2 loses no less than LSM-1 when a sensor or six hours are removed: its explanations, one at a time.

  python -m aim.main --mode=compare --config=compare_robustness --workdir=runs/compare_robustness

Tokens are pooled as published, by one mean, and LSM-1 sees a lost sensor as the constant that it was filled with.
compare_robustness_channel and compare_robustness_unseen take the same models for the other explanations, without
training them again if they get the same workdir; keep comparison.csv of each.

Hardware and time: one CPU core; four to twenty minutes to train each of the eighteen models, three to ten to score it.
Result (2026-11-30, docs/results/robustness.md): nowhere half of LSM-1's drop; at 2,000 steps level with it.
"""

from experiments import compare_simulated, real_days

LSM2 = "experiments/real_days.py"
BEFORE = f"{LSM2} {real_days.BEFORE}"
EARLIER = {"LSM-1": compare_simulated.LSM1, "LSM-2, evidence before the decoder": BEFORE}  # than decision 106
MODELS = {"LSM-2": LSM2} | EARLIER


def get_config():
  return with_probes("--config.probe.pool=mean")


def with_probes(*flags):
  """The study with these flags of config.probe for all models."""
  config = compare_simulated.get_config()
  config.compare.models = (
    BEFORE,
    # Without masks of whole sensors, pretraining never shows a day that lost one.
    f"{BEFORE} --config.name='LSM-2 without sensor masks' --config.masking.sensor.weight=0.0",
    compare_simulated.LSM1,
    # Five times the windows; compared with each other by --config.compare.reference='LSM-2, 2000 steps'.
    *compare_simulated.after(2000, MODELS),
  )
  config.compare.common = (
    *compare_simulated.SIZES,
    compare_simulated.FAST,
    *("--config.total_steps=400", "--config.batch_size=16", "--config.checkpoint.every_steps=200"),
    *flags,
  )
  config.compare.seeds = (0, 1, 2)
  config.compare.modes = ("robustness",)
  return config
