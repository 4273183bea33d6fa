"""The smallest rung of the size ladder.

python -m aim.main --config=experiments/lsm2_xxs.py --workdir=runs/xxs
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 64, "mlp": 256, "heads": 1, "layers": 2})
  config.model.decoder.update({"width": 48, "mlp": 192, "heads": 1, "layers": 1})
  config.batch_size = 64
  config.total_steps = 2_000
  config.optimizer.accumulate = 16  # windows are long: a few at a time fit one device
  return config
