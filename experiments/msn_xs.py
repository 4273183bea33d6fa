"""MSN (Assran et al. 2022) on the encoder of size XS, beside lsm2_xs and lsm1_xs: same data and budget.

  python -m aim.main --config=msn_xs --config.data.name=mine --workdir=runs/msn_xs

Days and patches are LSM-1's: imputed linearly in time, 10 minutes x 5 channels; with --config.data.impute=none holes
stay holes. The model makes embeddings and reconstructs nothing.

Hardware: CPU cores or one GPU. Time and result: not measured at these 10,000 steps; its probes after 600 steps of 0.4M
parameters are in docs/results/compare_simulated.md. It is untuned.
"""

from experiments import lsm1_xs


def get_config():
  config = lsm1_xs.get_config()
  config.name = "MSN"
  config.method = "msn"
  config.views.teacher_temperature = 0.025
  config.views.projection.update({"hidden": 512, "width": 128, "layers": 3})
  return config
