"""OpenMHC's daily LSM-2: its 19 channels of HealthKit by the minute, its layout and its rules, pretrained on your data.

  python -m aim.main --config=openmhc_daily --config.data.name=mine --workdir=runs/daily

The dataset has OpenMHC's channels in its order (docs/interop.md). What comes out can be written as one of its release
folders: --mode=export --format=openmhc. Their training code is not public, so schedule and masks are those of
lsm2_base; --config.masking.drop_ratio=0.5 drops tokens as their model's own default does.

Hardware: a GPU machine or a TPU slice, as lsm2_base. Result: not measured, we have no such dataset.
"""

from experiments import lsm2_base


def get_config():
  config = lsm2_base.get_config()
  config.name = "LSM-2 (OpenMHC layout)"
  config.model.observed_flags = False
  config.model.decoder.tokens = "all"
  config.masking.min_observed_share = 1.0
  config.masking.any_observed = ("watch_hr",)
  config.data.clip = False
  config.data.zero_is_missing = ("watch_hr",)
  return config
