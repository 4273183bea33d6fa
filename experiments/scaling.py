"""Scaling of the loss on people never seen with people, hours, size and compute: LSM-2 beside LSM-1.

  python -m aim.main --mode=scaling --config=scaling --workdir=runs/scaling

1,000 simulated people x 5 days; 40,000 to 1 million parameters on patches of an hour (LSM-1: half an hour x 5
channels). A repeated command continues. cells.csv in the workdir lists the cells, and --config.scaling.cells="(3,7)"
runs some of them, on any machine that sees the folder.

Hardware and time: one CPU core; 2 to 6 minutes for a cell of 64 or 256 steps, 6 to 9 of 1,024, 17 to 40 of 4,096;
some six hours in all. Real days take about as long:

  python -m aim.main --mode=scaling --config=scaling --workdir=runs/scaling_real \\
    --config.scaling.inputs="('../shared/data/t1d_uom.npz:4',)" --config.scaling.participants="(2,3,4,6,0)" \\
    --config.scaling.days="(20,50,120,300,0)" --config.scaling.steps="(50,150,400)" --config.scaling.at.steps=150

Result (2026-11-30, docs/results/scaling.md; ten of the cells of LSM-2): its loss falls with steps and hardly with
size, so the smallest model is the best for its compute, and it does not flatten up to 4,096 steps.
"""

from experiments import lsm2_tiny, real_days


def get_config():
  config = lsm2_tiny.get_config()
  config.data.participants = 1000
  config.scaling.models = (
    # Its masks have holes inside patches, as the random 80 % task has; without them that error was down to chance.
    f"experiments/real_days.py {real_days.BEFORE} --config.optimizer.ema=0.99",
    "experiments/lsm1_xs.py --config.model.patch_minutes=30 --config.optimizer.ema=0.99 --config.model.remat=False",
  )
  config.scaling.common = (
    *("--config.batch_size=16", "--config.optimizer.accumulate=4", "--config.sizes=2"),
    "--config.model.dtype=bfloat16",  # on recent CPUs 1.5 times as fast as float32
    "--config.checkpoint.every_steps=200",
    *("--config.evaluate.batch_size=32", "--config.evaluate.days=200"),
  )
  config.scaling.participants = (10, 30, 100, 300, 0)
  config.scaling.days = (20, 80, 320, 1280, 0)
  config.scaling.sizes = ("3XS", "XXS", "XXS+", "XS")
  config.scaling.steps = (64, 256, 1024, 4096)
  config.scaling.at.update({"size": "XXS+", "steps": 256})
  return config
