"""The shipped weights: 0.9M parameters, trained on several public sets of real days at once, in five-minute steps.

  python -m benchmarks.weights --input=../shared/data --output=runs/lsm2-watch-xs

Hardware: two CPU cores. Time and result: docs/results/weights.md.
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.name = "lsm2-watch-xs"
  config.total_steps = 4000
  config.batch_size = 16  # small batches give more updates for the same work
  config.sizes = 2
  config.model.patch_minutes = 60
  config.model.encoder.update({"width": 128, "mlp": 512, "heads": 4, "layers": 4})
  config.model.decoder.update({"width": 80, "mlp": 320, "heads": 4, "layers": 1})
  config.model.decoder.tokens = "present"  # a day of a union of sets has few of its channels
  config.model.places = "vocabulary"
  config.model.remat = False  # few tokens per day
  config.model.interpolation_skip = True
  config.model.skip_evidence = "smooth"
  config.model.qk_init = 0.25
  config.masking.random.weight = 0.25
  config.masking.random.unit_minutes = 10
  config.masking.temporal.weight = 0.25
  config.masking.sensor.weight = 0.2
  config.masking.gaps.weight = 0.3
  config.optimizer.learning_rate = 1.5e-3
  config.optimizer.accumulate = 1  # days differ much in tokens; more of them together waste fewer slots
  config.optimizer.ema = 0.998
  config.checkpoint.every_steps = 500
  config.evaluate.batch_size = 64
  return config
