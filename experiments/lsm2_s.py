"""LSM-2 of size S, 7.3M parameters.

  python -m aim.main --config=lsm2_s --config.data.name=mine --workdir=runs/s

Hardware: one GPU, some hours by estimate. Time and result: not measured.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 256, "mlp": 1024, "heads": 4, "layers": 8})
  config.model.decoder.update({"width": 192, "mlp": 768, "heads": 4, "layers": 2})
  config.batch_size = 256
  config.total_steps = 50_000
  config.optimizer.accumulate = 16  # windows are long, so only a few at a time fit one device
  return config
