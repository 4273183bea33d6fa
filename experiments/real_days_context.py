"""real_days with the means of the person's nearest other days beside each day; for people with many days.

  python -m aim.main --config=real_days_context --config.data.name=mine --workdir=runs/mine

Hardware and time: as real_days.
"""

from experiments import real_days


def get_config():
  config = real_days.get_config()
  config.model.context_days = 14
  return config
