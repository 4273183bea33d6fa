"""LSM-2 on the real days of one small study (t1d_uom, mss, nhanes): one config for all of them.

  python -m data_pipelines.build --source=npz --input=mine.npz --data_dir=data --name=mine
  python -m aim.main --config=real_days --config.data.name=mine --workdir=runs/mine

Hardware and time: a dozen people with some hundred days of 8 channels in five-minute steps take ten to fifteen minutes
on one CPU core.
Result (2026-11-23, docs/results/real_days.md, by `python -m benchmarks.real_days`): on people never seen in training,
the lowest mean over channels in all 13 tasks on t1d_uom, and in all tasks on mss and nhanes; not the lowest in every
channel. Random 80 % hidden, against linear interpolation: t1d_uom 0.479 and 0.621, mss 0.382 and 0.433, nhanes 0.627
and 0.884. These figures are of model.skip_evidence = "line"; "smooth" was compared with it on development people alone.
They, and those of all studies that set BEFORE, are of model.evidence_embedding = "before" (decision 106).
"""

from experiments import default

BEFORE = "--config.model.evidence_embedding=before"  # as all figures before 2026-11-30


def get_config():
  config = default.get_config()
  config.total_steps = 1400
  config.batch_size = 16  # small batches give more updates for the same work, and these studies have few days
  config.sizes = 2  # compiling takes a good part of so short a run
  config.model.patch_minutes = 60
  config.model.encoder.update({"width": 96, "mlp": 384, "heads": 3, "layers": 3})
  config.model.decoder.update({"width": 64, "mlp": 256, "heads": 2, "layers": 1})
  config.model.decoder.tokens = "all"  # the results of this config and of those that start from it are of this decoder
  config.model.remat = False  # few tokens per day
  config.model.interpolation_skip = True
  config.model.skip_evidence = "smooth"
  config.model.evidence_embedding = "after"
  config.model.qk_init = 0.25
  config.masking.random.weight = 0.2
  config.masking.random.unit_minutes = 10
  config.masking.temporal.weight = 0.2
  config.masking.sensor.weight = 0.4  # the slowest to learn: one channel from another
  config.masking.gaps.weight = 0.2
  config.optimizer.learning_rate = 1.5e-3
  config.optimizer.accumulate = 4
  config.optimizer.ema = 0.995
  config.checkpoint.every_steps = 250
  config.evaluate.batch_size = 64
  return config
