"""S, seven million parameters: one GPU, hours.

python -m aim.main --config=experiments/lsm2_s.py --workdir=runs/s
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 256, "mlp": 1024, "heads": 4, "layers": 8})
  config.model.decoder.update({"width": 192, "mlp": 768, "heads": 4, "layers": 2})
  config.batch_size = 256
  config.total_steps = 50_000
  config.optimizer.accumulate = 16  # windows are long: a few at a time fit one device
  return config
