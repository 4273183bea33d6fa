"""What people do, ten minutes at a time, told from phone and watch: LSM-2 beside LSM-1 on people never seen.

python -m aim.main --mode=compare --config=experiments/compare_activity.py --workdir=runs/compare_activity

ExtraSensory (Vaizman et al. 2017): 21 people, 14 channels by the minute of which six to nine tenths are missing, and
minutes labelled as lying down, sitting, walking, eating, ... Each third of the people is held out once.
"""

from experiments import compare_real


def get_config():
  config = compare_real.get_config()
  config.compare.inputs = (f"{compare_real.DATA}/extrasensory.npz:3",)
  config.compare.modes = ("probe",)
  config.probe.min_people = 8  # of the 14 in training; by default a study of this size has no label
  config.compare.common = (
    "--config.total_steps=400",
    # The published ten minutes: also how long the windows are that are asked about.
    "--config.model.patch_minutes=10",
    f"--config.probe.min_people={config.probe.min_people}",
  )
  return config
