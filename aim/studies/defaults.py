"""Default config of the studies: --mode=compare and --mode=scaling."""

from __future__ import annotations

from ml_collections import ConfigDict

from aim.common.config_ranges import SEED, TEXT, Range, Row, Several, number, one_of, whole


def defaults() -> ConfigDict:
  """The groups compare and scaling."""
  return ConfigDict({"compare": _compare(), "scaling": _scaling()})


def _compare() -> ConfigDict:
  """Several models on the same days with the same common settings (aim/studies/compare)."""
  compare = ConfigDict()
  compare.models = ()  # "CONFIG --config.key=value ..." for each, CONFIG being a shipped name or a file
  compare.reference = ""  # name of the model whose differences with the others are told; empty: the first
  compare.common = ()  # "--config.key=value" for all of them, such as sizes and budget
  compare.modes = ("evaluate", "probe", "finetune", "robustness")
  compare.seeds = (0,)
  compare.inputs = ()  # "days.npz" or "days.npz:FOLDS"; empty: the simulated cohort of config.data
  compare.folds = 4  # groups of people, each held out once, for an npz that names no number
  compare.run_folds = ()  # folds to run; empty: all
  compare.jobs = 1  # commands at once
  compare.bootstrap = 1000
  return compare


def _scaling() -> ConfigDict:
  """Held-out loss against data, model size and compute (aim/studies/scaling)."""
  scaling = ConfigDict()
  scaling.models = ()  # "CONFIG --config.key=value ...": what is trained in every cell
  scaling.common = ()  # "--config.key=value" for all cells
  scaling.inputs = ()  # as config.compare.inputs; empty: the dataset of config.data
  scaling.folds = 4  # as config.compare.folds; the people of all folds are scored together
  scaling.run_folds = ()  # folds to run; empty: all
  scaling.participants = (0,)  # training people; 0: all
  scaling.days = (0,)  # training days of all these people together; 0: all
  scaling.sizes = ("XXS", "XS", "S")  # of the ladder
  scaling.steps = (1000,)  # of training, each with a schedule of its own
  scaling.seeds = (0,)
  # "axes" varies participants and days one at a time, and sizes x steps together, while the others are as in `at`;
  # "all" runs every combination. The fits use the same cells either way.
  scaling.grid = "axes"
  scaling.at = ConfigDict({"participants": 0, "days": 0, "size": "XS", "steps": 1000})
  scaling.cells = ()  # numbers of the cells to run, as in cells.csv; empty: all
  scaling.bootstrap = 200  # refits of every curve
  # Width, MLP, heads and layers of the encoder and of the decoder; and the learning rate, which falls with the width.
  scaling.ladder = ConfigDict(
    {
      "3XS": ((32, 128, 1, 1), (32, 128, 1, 1), 4e-3),
      "XXS": ((64, 256, 1, 2), (48, 192, 1, 1), 3e-3),
      "XXS+": ((96, 384, 2, 3), (64, 256, 2, 1), 2e-3),
      "XS": ((128, 512, 2, 4), (96, 384, 2, 1), 1.5e-3),
      "XS+": ((192, 768, 3, 6), (128, 512, 2, 2), 1e-3),
      "S": ((256, 1024, 4, 8), (192, 768, 4, 2), 7.5e-4),
    }
  )
  return scaling


_FOLDS: dict[str, Range] = {"folds": whole(2, 1_000_000), "run_folds": Several(whole(0, 1_000_000))}
_SUBSET = whole(0, 1_000_000_000)
_STEPS = whole(1, 100_000_000)
_TOWER = Row((whole(1, 100_000), whole(1, 1_000_000), whole(1, 10_000), whole(1, 1000)))

# The range of every key, checked before anything is built (aim/common/config_ranges.py).
RANGES: dict[str, Range] = {
  **{f"{study}.{key}": Several(TEXT) for study in ("compare", "scaling") for key in ("models", "common", "inputs")},
  **{f"{study}.{key}": allowed for study in ("compare", "scaling") for key, allowed in _FOLDS.items()},
  **{f"{study}.seeds": Several(SEED, empty=False) for study in ("compare", "scaling")},
  "compare.modes": Several(one_of("evaluate", "probe", "finetune", "robustness")),
  "compare.reference": TEXT,
  "compare.jobs": whole(1, 1000),
  "compare.bootstrap": whole(1, 1_000_000),
  "scaling.participants": Several(_SUBSET, empty=False),
  "scaling.days": Several(_SUBSET, empty=False),
  "scaling.sizes": Several(TEXT, empty=False),
  "scaling.steps": Several(_STEPS, empty=False),
  "scaling.grid": one_of("axes", "all"),
  "scaling.at.participants": _SUBSET,
  "scaling.at.days": _SUBSET,
  "scaling.at.size": TEXT,
  "scaling.at.steps": _STEPS,
  "scaling.cells": Several(whole(0, 1_000_000_000)),
  "scaling.bootstrap": whole(1, 1_000_000),
  "scaling.ladder.*": Row((_TOWER, _TOWER, number(0, 1000, above=True))),
}
