"""The paper's comparison on simulated people: LSM-2 beside LSM-1, other self-supervision and supervised training.

  python -m aim.main --mode=compare --config=compare_simulated --workdir=runs/compare_simulated

1,000 people x 5 days, a tenth of the people held out. The encoders have the demo's size, and all are trained for
the same number of steps on days of the same people. A repeated command continues.

Hardware and time: two CPU cores, about three hours; a third less with --config.compare.jobs=2.
Result (2026-11-24, docs/results/compare_simulated.md): LSM-2 is below LSM-1 beyond chance in all 21 generative tasks.
Its probes are level with those of the others, and fine-tuning adds nothing to them.
"""

from experiments import lsm2_tiny, real_days

SIZES = (
  *("--config.model.encoder.width=96", "--config.model.encoder.mlp=384"),
  *("--config.model.encoder.heads=2", "--config.model.encoder.layers=3"),
  *("--config.model.decoder.width=64", "--config.model.decoder.mlp=256"),
  *("--config.model.decoder.heads=2", "--config.model.decoder.layers=1", "--config.model.remat=False"),
)
BUDGET = ("--config.total_steps=600", "--config.batch_size=16", "--config.checkpoint.every_steps=200")
SCORED = ("--config.evaluate.days=150", "--config.evaluate.days_a_task=0")
FAST = "--config.model.dtype=bfloat16"  # on recent CPUs 1.5 times as fast as float32
# Half an hour, because activities are shorter than the demo's hour.
PATCH = "--config.model.patch_minutes=30"
LSM2 = f"experiments/real_days.py {real_days.BEFORE} {PATCH}"  # also hides minutes inside patches, as the tasks do
LSM1 = "experiments/lsm1_xs.py --config.optimizer.ema=0.99 --config.optimizer.learning_rate=2e-3"
RATE = "--config.optimizer.learning_rate=1e-3"
# Self-supervision that reconstructs nothing: a method's name to its config.
EMBEDDING = {name: f"experiments/{name.lower()}_xs.py {PATCH} {RATE}" for name in ("SimCLR", "DINO", "MSN")}


def get_config():
  config = lsm2_tiny.get_config()
  config.data.participants = 1000
  config.compare.models = (
    LSM2,
    LSM1,
    *EMBEDDING.values(),
    f"{LSM2} --config.name='LSM-2 on fuller days' --config.data.max_missing=0.4",
  )
  config.compare.common = (
    *SIZES,
    *BUDGET,
    FAST,
    *SCORED,
    "--config.finetune.tasks=('hypertension',)",
    "--config.finetune.label_percent=(10,100)",
    "--config.finetune.steps=150",
  )
  return config


def after(steps, models):
  """The models, by name, trained for so many steps."""
  return tuple(
    f"{model} --config.name='{name}, {steps} steps' --config.total_steps={steps}" for name, model in models.items()
  )
