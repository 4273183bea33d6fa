"""LSM-2 at the published size, batch and schedule: 24.6M parameters, 4,096 windows per step, 50,000 steps.

  python -m aim.main --config=lsm2_base --config.data.name=mine --workdir=runs/base

Not as published are three values (docs/decisions/011-inherited-rule.md and 101-refined-decoder.md):

  masking.min_observed_share  0.0        a token is lost if no step of it was observed; published: 1.0, if any was not
  model.observed_flags        True       the patch embedding also sees which steps were observed; published: it does not
  model.decoder.tokens        "refined"  the decoder attends to visible tokens; published: "all", to every position

The rule was measured with patches of 60 minutes (docs/results/inherited_rule.md), the decoder with small models
(docs/results/decoders.md), the flags were not measured. As published: --config.masking.min_observed_share=1.0
--config.model.observed_flags=False --config.model.decoder.tokens=all. Off, as published, are interpolation_skip,
qk_init, masking.gaps and random.unit_minutes, which small models on real days use. So no loss trains the holes inside a
visible patch, and imputing fills those with a straight line (impute.short_holes).

Hardware: a TPU slice or GPU machine. On several accelerators it needs a --config.data.name; on one, and on a CPU, where
it prints how long a step would take, it otherwise trains on the simulated cohort.
Time: --mode=preflight --topology=v5e:8x16 says at least 106 ms per step, 1.5 hours in all, with 6.4 of 16 GB per chip
in the buffers of a typical step (docs/results/accelerators.md). Two steps of two windows on two CPU cores: 140 s of
processor time, 7.6 GB.
Result: not measured, we have not run it to its end.
"""

from experiments import default


def get_config():
  config = default.get_config()
  return config
