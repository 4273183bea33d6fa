"""LSM-2 of size XXS, 0.1M parameters: the smallest rung of the size ladder.

  python -m aim.main --config=lsm2_xxs --config.data.name=mine --workdir=runs/xxs

Hardware: CPU cores or one GPU. Time and result: not measured at these 2,000 steps.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 64, "mlp": 256, "heads": 1, "layers": 2})
  config.model.decoder.update({"width": 48, "mlp": 192, "heads": 1, "layers": 1})
  config.batch_size = 64
  config.total_steps = 2_000
  config.optimizer.accumulate = 16  # windows are long, so only a few at a time fit one device
  return config
