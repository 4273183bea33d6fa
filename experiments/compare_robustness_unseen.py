"""compare_robustness with an LSM-1 that leaves out what was filled in, as LSM-2 does.

python -m aim.main --mode=compare --config=compare_robustness_unseen --workdir=runs/compare_robustness
"""

from experiments import compare_robustness


def get_config():
  return compare_robustness.with_probes("--config.probe.pool=mean", "--config.probe.imputed_patches=unseen")
