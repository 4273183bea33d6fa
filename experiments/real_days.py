"""Real days of one small study (t1d_uom, mss, nhanes): one config for all of them.

python -m data_pipelines.build --source=npz --input=t1d_uom.npz --data_dir=data --name=t1d --folds=4 --fold=0
python -m aim.main --config=experiments/real_days.py --config.data.name=t1d --workdir=runs/t1d
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.total_steps = 1500
  config.batch_size = 32
  config.model.patch_minutes = 60
  config.model.interpolation_skip = True
  config.model.encoder = {"width": 128, "mlp": 512, "heads": 4, "layers": 4}
  config.model.decoder = {"width": 96, "mlp": 384, "heads": 4, "layers": 2}
  config.optimizer.learning_rate = 2e-3
  config.optimizer.ema = 0.995
  config.masking.random.unit_minutes = 10
  config.masking.gaps.weight = 1
  config.optimizer.accumulate = 16
  config.checkpoint.every_steps = 250
  config.evaluate.batch_size = 64
  return config
