"""SAITS and BRITS of PyPOTS on the tasks of --mode=evaluate: trained on the same people, scored on the same values.

  python -m aim.main --config=C --workdir=RUN --mode=evaluate --config.evaluate.export=RUN/cells
  pip install -e ".[pypots]"
  python -m benchmarks.pypots_imputers --cells=RUN/cells --output=RUN/pypots [--models=SAITS,BRITS] [--epochs=20]
  python -m aim.main --config=C --workdir=RUN --mode=evaluate \
      --config.evaluate.external=SAITS=RUN/pypots/SAITS,BRITS=RUN/pypots/BRITS

A day of one-minute steps is long for models that attend to or step through every step. They see means over --minutes,
and their imputation of such a stretch is used for each of its steps. Their sizes are those of PyPOTS's examples.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags
from jaxtyping import Float

CELLS = flags.DEFINE_string("cells", None, "Folder of exported tasks (config.evaluate.export).", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder to write to, with one folder per model.", required=True)
MODELS = flags.DEFINE_list("models", "SAITS,BRITS", "Models to train.")
EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of training.", lower_bound=1)
MINUTES = flags.DEFINE_integer("minutes", 10, "Length of a stretch that the models see as one step.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the training.")


def main(argv: Sequence[str]) -> None:
  cells, output = pathlib.Path(CELLS.value), pathlib.Path(OUTPUT.value)
  with np.load(cells / "train.npz") as arrays:
    train, stretch = arrays["X"], max(1, MINUTES.value // int(arrays["minutes_per_step"]))
  if train.shape[1] % stretch:
    raise app.UsageError(f"--minutes={MINUTES.value}: {train.shape[1]} steps do not divide into stretches of {stretch}")
  train = stretches(train, stretch)
  train = train[~np.isnan(train).all(axis=(1, 2))]
  for name in MODELS.value:
    model = make(name, *train.shape[1:])
    model.fit({"X": train})
    (output / name).mkdir(parents=True, exist_ok=True)
    for path in sorted(cells.glob("*.npz")):
      if path.name != "train.npz":
        answer(model, path, output / name / path.name, stretch)
    print(f"{output / name}")


def make(name: str, steps: int, channels: int) -> Any:
  """A model of PyPOTS; app.UsageError for an unknown name."""
  import pypots.imputation
  from pypots.utils.random import set_random_seed

  set_random_seed(SEED.value)
  common = {"n_steps": steps, "n_features": channels, "epochs": EPOCHS.value, "batch_size": 32, "verbose": False}
  if name == "SAITS":
    sizes = {"n_layers": 2, "d_model": 256, "n_heads": 4, "d_k": 64, "d_v": 64, "d_ffn": 128, "dropout": 0.1}
    return pypots.imputation.SAITS(**common, **sizes)
  if name == "BRITS":
    return pypots.imputation.BRITS(**common, rnn_hidden_size=128)
  raise app.UsageError(f"--models: {name!r}, expected SAITS or BRITS")


def answer(model: Any, path: pathlib.Path, output: pathlib.Path, stretch: int) -> None:
  """Imputes an exported task and writes the file that config.evaluate.external reads."""
  with np.load(path) as arrays:
    x = arrays["X"]
    labels = {key: arrays[key] for key in ("indicating_mask", "participant", "day", "task", "level")}
  imputed = np.asarray(model.impute({"X": stretches(x, stretch)}), np.float32)
  filled = np.where(np.isnan(x), np.repeat(imputed, stretch, axis=1), x)
  np.savez_compressed(output, imputation=filled, **labels)


def stretches(z: Float[np.ndarray, "d s c"], stretch: int) -> Float[np.ndarray, "d b c"]:
  """Means of the observed values in every `stretch` steps; NaN where there are none."""
  parts = z.reshape(len(z), -1, stretch, z.shape[2])
  count = (~np.isnan(parts)).sum(axis=2)
  means = np.nansum(parts, axis=2) / np.maximum(count, 1)
  return np.where(count > 0, means, np.nan).astype(np.float32)


if __name__ == "__main__":
  app.run(main)
