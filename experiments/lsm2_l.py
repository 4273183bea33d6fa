"""LSM-2 of size L, 328M parameters.

  python -m aim.main --config=lsm2_l --config.data.name=mine --workdir=runs/l

Hardware: a TPU slice. It compiles for v5e:2x4 with 32 windows per step, 6.6 of 16 GB per chip and at best 113 windows/s
(--mode=preflight, docs/results/preflight.md). Time and result: not measured.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 1024, "mlp": 4096, "heads": 16, "layers": 24})
  config.model.decoder.update({"width": 512, "mlp": 2048, "heads": 16, "layers": 8})
  return config
