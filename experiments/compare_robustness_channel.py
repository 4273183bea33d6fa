"""compare_robustness with tokens pooled by channel, as `probe.pool` is by default.

python -m aim.main --mode=compare --config=compare_robustness_channel --workdir=runs/compare_robustness
"""

from experiments import compare_robustness


def get_config():
  return compare_robustness.with_probes("--config.probe.pool=channel")
