"""SAITS and BRITS of PyPOTS on the cells of --mode=evaluate: trained on the same people, scored on identical cells.

  python -m aim.main --config=C --workdir=RUN --mode=evaluate --config.evaluate.export=RUN/cells
  pip install -e ".[pypots]"
  python -m benchmarks.pypots_imputers --cells=RUN/cells --output=RUN/pypots [--models=SAITS,BRITS] [--epochs=20]
  python -m aim.main --config=C --workdir=RUN --mode=evaluate \
      --config.evaluate.external=SAITS=RUN/pypots/SAITS,BRITS=RUN/pypots/BRITS

A day of one-minute steps is long for models that attend to, or step through, every step: they see means of
--minutes, and what they say of a stretch is taken for each of its steps. Their sizes are PyPOTS's examples'.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags
from jaxtyping import Float

CELLS = flags.DEFINE_string("cells", None, "Folder of exported cells.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder to write to, one folder a model in it.", required=True)
MODELS = flags.DEFINE_list("models", "SAITS,BRITS", "Who imputes.")
EPOCHS = flags.DEFINE_integer("epochs", 20, "Of training.", lower_bound=1)
MINUTES = flags.DEFINE_integer("minutes", 10, "Length of a stretch that the models see as one step.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the training.")


def main(argv: Sequence[str]) -> None:
  cells, output = pathlib.Path(CELLS.value), pathlib.Path(OUTPUT.value)
  with np.load(cells / "train.npz") as arrays:
    train, block = arrays["X"], max(1, MINUTES.value // int(arrays["minutes_per_step"]))
  if train.shape[1] % block:
    raise app.UsageError(f"--minutes={MINUTES.value}: {train.shape[1]} steps are not whole stretches of {block}")
  train = stretches(train, block)
  train = train[~np.isnan(train).all(axis=(1, 2))]
  for name in MODELS.value:
    model = make(name, *train.shape[1:])
    model.fit({"X": train})
    (output / name).mkdir(parents=True, exist_ok=True)
    for path in sorted(cells.glob("*.npz")):
      if path.name != "train.npz":
        answer(model, path, output / name / path.name, block)
    print(f"{output / name}")


def make(name: str, steps: int, channels: int) -> Any:
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


def answer(model: Any, path: pathlib.Path, output: pathlib.Path, block: int) -> None:
  """Imputes an exported task and writes what config.evaluate.external reads."""
  with np.load(path) as arrays:
    x = arrays["X"]
    kept = {key: arrays[key] for key in ("indicating_mask", "participant", "day", "task", "level")}
  found = np.asarray(model.impute({"X": stretches(x, block)}), np.float32)
  filled = np.where(np.isnan(x), np.repeat(found, block, axis=1), x)
  np.savez_compressed(output, imputation=filled, **kept)


def stretches(z: Float[np.ndarray, "d s c"], block: int) -> Float[np.ndarray, "d b c"]:
  """Means of what is observed in each `block` steps; NaN where nothing is."""
  parts = z.reshape(len(z), -1, block, z.shape[2])
  count = (~np.isnan(parts)).sum(axis=2)
  means = np.nansum(parts, axis=2) / np.maximum(count, 1)
  return np.where(count > 0, means, np.nan).astype(np.float32)


if __name__ == "__main__":
  app.run(main)
