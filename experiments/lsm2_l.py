"""L, 330M parameters: a TPU slice.

python -m aim.main --config=experiments/lsm2_l.py --workdir=runs/l
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 1024, "mlp": 4096, "heads": 16, "layers": 24})
  config.model.decoder.update({"width": 512, "mlp": 2048, "heads": 16, "layers": 8})
  return config
