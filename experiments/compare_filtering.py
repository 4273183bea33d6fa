"""LSM-2 trained on all days of a pool of people beside itself trained on the fuller days of the same people.

  python -m aim.main --mode=compare --config=compare_filtering --workdir=runs/compare_filtering

It needs nhanes.npz of ../shared/data, or --config.compare.inputs="('mine.npz:2',)" with a FULLER of its own.

Hardware and time: one CPU core, two hours; a repeated command goes on where it stopped.
Result (2026-11-30, docs/results/filtering.md): all days of 12 and 36 people are lower by 23 and 13 % in the median row;
with 93 people they are level.
"""

from experiments import compare_ablations, compare_real, real_days

FULLER = 0.37  # of the days of nhanes, a fifth miss less
PEOPLE = (0, 36, 12)  # 0: all, 93 in a fold


def get_config():
  config = compare_ablations.get_config()
  lsm2, lsm1 = f"experiments/real_days.py {real_days.BEFORE}", "experiments/lsm1_real.py"
  choices = {"all days": "", "fuller days": f" --config.data.max_missing={FULLER}"}
  config.compare.models = tuple(
    f"{model} --config.name='{name} on {days} of {n or 'all'} people' --config.data.max_participants={n}{limit}"
    for n in PEOPLE
    for name, model in (("LSM-2", lsm2), *([("LSM-1", lsm1)] if not n else []))
    for days, limit in choices.items()
  )
  config.compare.inputs = (f"{compare_real.DATA}/nhanes.npz:2",)
  # Enough to learn the fuller days by heart: of 12 people, some 20 days are each seen 1,600 times.
  config.compare.common = (
    *(flag for flag in config.compare.common if "total_steps" not in flag),
    "--config.total_steps=2000",
  )
  return config
