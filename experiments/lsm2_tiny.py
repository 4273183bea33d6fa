"""The demo: a 0.4M parameter LSM-2 on 120 simulated people (`make demo`).

  python -m aim.main --config=lsm2_tiny --workdir=runs/demo
  python -m aim.main --config=lsm2_tiny --workdir=runs/demo --mode=evaluate

Hardware and time: two CPU cores, under five minutes in all.
Result (2026-11-29): the training loss ends near 0.64. On 17 people never seen, the error is below that of the channel's
mean beyond chance in 21 of 22 tasks (one cannot be told), below linear interpolation in 20 and below the time of day in
17 (docs/results/demo.md).
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.data.participants = 120
  config.total_steps = 500
  config.batch_size = 16
  config.evaluate_every = 50  # 20 times would take too large a part of so short a run
  config.sizes = 2  # compiling takes a good part of so short a run
  config.model.patch_minutes = 60
  config.model.encoder.update({"width": 96, "mlp": 384, "heads": 2, "layers": 3})
  config.model.decoder.update({"width": 64, "mlp": 256, "heads": 2, "layers": 1})
  config.model.remat = False  # few tokens per day
  config.model.interpolation_skip = True
  config.model.qk_init = 0.25
  config.masking.random.weight = 0.2
  config.masking.random.unit_minutes = 10
  config.masking.temporal.weight = 0.2
  config.masking.sensor.weight = 0.4  # the slowest to learn: one channel from another
  config.masking.gaps.weight = 0.2  # without minutes hidden inside patches, what fills them would not be trained
  config.optimizer.learning_rate = 2e-3
  config.optimizer.ema = 0.99
  config.optimizer.accumulate = 4
  config.checkpoint.every_steps = 100
  config.log.every_steps = 20
  config.evaluate.days = 60
  return config
