"""LSM-2 of size XS, 0.9M parameters: what a laptop trains overnight.

  python -m aim.main --config=lsm2_xs --config.data.name=mine --workdir=runs/xs

Hardware: CPU cores or one GPU. How long a step takes: docs/results/step_speed.md. Result: not measured at these 10,000
steps; of a checkpoint, the evaluation of 500 days takes 182 s on two CPU cores (docs/results/demo.md).
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 128, "mlp": 512, "heads": 2, "layers": 4})
  config.model.decoder.update({"width": 96, "mlp": 384, "heads": 2, "layers": 1})
  config.batch_size = 64
  config.total_steps = 10_000
  config.optimizer.accumulate = 16  # windows are long, so only a few at a time fit one device
  config.evaluate.days_a_task = 60  # 22 tasks on 3,744 tokens per day, within five minutes on two cores
  return config
