"""Simulated people at longer budgets: LSM-2 and LSM-1 after 2,000 steps, and before decision 106 after 8,000.

These are 8 and 33 passes over the days. After 2,000 steps also LSM-2 without its interpolation skip and, before
decision 106, with patches of half an hour; SimCLR, DINO and MSN.

  python -m aim.main --mode=compare --config=compare_longer --workdir=runs/compare_robustness

With the workdir of compare_robustness, the trainings of 2,000 steps are shared. LSM-2 of 2,000 steps is compared with
the others; --config.compare.reference="LSM-2, evidence before the decoder, 8000 steps" compares that one.

Hardware and time: one CPU core of a recent server; ten to thirty minutes to train LSM-2 for 2,000 steps, five to twelve
for LSM-1, four times that for 8,000; ten to twenty for the others; one to ten to score each.
Result (2026-11-30, docs/results/steps.md): at 2,000 steps LSM-2 is below LSM-1 beyond chance in all 21 tasks in each of
three seeds, by 35 to 40 % with lost channels and 25 to 29 % at random 80 %; embeddings are level but for activities.
"""

from experiments import compare_ablations, compare_robustness, compare_simulated


def get_config():
  config = compare_robustness.with_probes("--config.probe.pool=channel")
  others = {
    "LSM-2 without the skip": f"{compare_robustness.LSM2} {compare_ablations.CHANGES['without the skip']}",
    "LSM-2, half-hour patches": compare_simulated.LSM2,
    **compare_simulated.EMBEDDING,
  }
  config.compare.models = (
    *compare_simulated.after(2000, compare_robustness.MODELS | others),
    *compare_simulated.after(8000, compare_robustness.EARLIER),
  )
  config.compare.common += compare_simulated.SCORED
  config.compare.modes = ("evaluate", "probe")
  return config
