"""XS, about a million parameters: what a laptop trains overnight.

python -m aim.main --config=experiments/lsm2_xs.py --workdir=runs/xs
"""

from experiments import default


def get_config():
  config = default.get_config()
  config.model.encoder.update({"width": 128, "mlp": 512, "heads": 2, "layers": 4})
  config.model.decoder.update({"width": 96, "mlp": 384, "heads": 2, "layers": 1})
  config.batch_size = 64
  config.total_steps = 10_000
  config.optimizer.accumulate = 16  # windows are long: a few at a time fit one device
  config.evaluate.days_a_task = 60  # 22 tasks on 3,744 tokens a day: five minutes on two cores
  return config
