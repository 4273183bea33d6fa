"""real_days with the means of the person's 14 nearest other days beside each day, for people with many days.

  python -m aim.main --config=real_days_context --config.data.name=mine --workdir=runs/mine

Hardware and time: as real_days, ten to fifteen minutes on one CPU core.
Result (2026-11-29, docs/results/real_days.md): on the three people of t1d_uom's development fold, 700 steps, one seed,
below the person's own time-of-day mean in all 22 tasks: 2 channels lost 1.055 and 1.065 (real_days 1.420), six hours of
sleep 1.317 and 1.438 (1.434); a gap of 60 minutes .716 (.698). Held-out people were not scored.
"""

from experiments import real_days


def get_config():
  config = real_days.get_config()
  config.model.context_days = 14
  return config
