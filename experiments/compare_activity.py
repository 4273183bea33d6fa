"""Activity recognition, ten minutes at a time, from phone and watch: LSM-2 beside LSM-1 on people never seen.

  python -m aim.main --mode=compare --config=compare_activity --workdir=runs/compare_activity

ExtraSensory (Vaizman et al. 2017): 21 people with 14 channels in one-minute steps, of which 60 to 90 % are missing, and
minutes labelled as lying down, sitting, walking, eating and so on. Each third of the people is held out once. It needs
../shared/data/extrasensory.npz, or --config.compare.inputs="('mine.npz:3',)".

Hardware: CPU cores. Time and result: not recorded.
"""

from experiments import compare_real


def get_config():
  config = compare_real.get_config()
  config.compare.inputs = (f"{compare_real.DATA}/extrasensory.npz:3",)
  config.compare.modes = ("probe",)
  config.probe.min_people = 8  # of the 14 in training; with the default a study of this size would have no label
  config.compare.common = (
    "--config.total_steps=400",
    *compare_real.SKIP,
    # The published ten minutes, which are also the length of the windows whose labels are predicted.
    "--config.model.patch_minutes=10",
    f"--config.probe.min_people={config.probe.min_people}",
  )
  return config
