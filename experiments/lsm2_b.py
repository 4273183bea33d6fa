"""B, 110M parameters: a TPU slice.

python -m aim.main --config=experiments/lsm2_b.py --workdir=runs/b
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 768, "mlp": 3072, "heads": 12, "layers": 12})
  config.model.decoder.update({"width": 512, "mlp": 2048, "heads": 16, "layers": 8})
  return config
