"""The demo: minutes on a laptop, on the simulated cohort (`make demo`).

python -m aim.main --config=experiments/lsm2_tiny.py --workdir=runs/demo
python -m aim.main --config=experiments/lsm2_tiny.py --workdir=runs/demo --mode=evaluate

Two CPU cores: about five minutes in all; the training loss ends near 0.72.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.data.participants = 120
  config.total_steps = 500
  config.batch_size = 16
  config.sizes = 2  # compiling is a good part of so short a run
  config.model.patch_minutes = 60
  config.model.encoder.update({"width": 96, "mlp": 384, "heads": 2, "layers": 3})
  config.model.decoder.update({"width": 64, "mlp": 256, "heads": 2, "layers": 1})
  config.model.remat = False  # few tokens a day
  config.model.interpolation_skip = True
  config.model.qk_init = 0.25
  config.masking.random.weight = 0.25
  config.masking.temporal.weight = 0.25
  config.masking.sensor.weight = 0.5  # what is learned slowest: channels from one another
  config.optimizer.learning_rate = 2e-3
  config.optimizer.ema = 0.99
  config.optimizer.accumulate = 4
  config.checkpoint.every_steps = 100
  config.log.every_steps = 20
  config.evaluate.days = 60
  return config
