"""LSM-2 of size B, 111M parameters.

  python -m aim.main --config=lsm2_b --config.data.name=mine --workdir=runs/b

Hardware: a TPU slice. It compiles for v5e:2x4 with 32 windows per step, 3.1 of 16 GB per chip and at best 210 windows/s
(--mode=preflight, docs/results/preflight.md). Time and result: not measured.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 768, "mlp": 3072, "heads": 12, "layers": 12})
  config.model.decoder.update({"width": 512, "mlp": 2048, "heads": 16, "layers": 8})
  return config
