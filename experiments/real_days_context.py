"""real_days with the means of the person's 14 nearest other days beside each day, for people with many days.

  python -m aim.main --config=real_days_context --config.data.name=mine --workdir=runs/mine

Hardware and time: as real_days, ten to fifteen minutes on one CPU core.
Result (2026-11-29, docs/results/real_days.md): on nine people of t1d_uom never seen, 700 steps, one seed, below the
person's own time-of-day mean beyond chance in all 22 tasks, and the lowest of all methods in 21: 2 channels lost .661
and .670, six hours of sleep .955 and 1.003. On twelve of mss the same in 21 and 20 of 21 tasks.
These figures are of model.evidence_embedding = "before" (decision 106).
"""

from experiments import real_days


def get_config():
  config = real_days.get_config()
  config.model.context_days = 14
  return config
