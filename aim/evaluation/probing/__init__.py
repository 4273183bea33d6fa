"""Frozen embeddings: what probes read from them, and what is lost when a sensor or a part of the day is removed.

`run` is --mode=probe, `robustness` is --mode=robustness.
"""

from aim.evaluation.probing.label_tasks import LabelRows, LabelTask, usable_tasks
from aim.evaluation.probing.leak_checks import check_held_out
from aim.evaluation.probing.learners import FitData, FittedProbe, fit_constant, fit_forest, fit_linear
from aim.evaluation.probing.probe_inputs import ProbeInputs, read_inputs
from aim.evaluation.probing.robustness import run_robustness
from aim.evaluation.probing.run import fit_probes, run_probe
from aim.evaluation.probing.sensor_dropout import Removal, removals

__all__ = [
  "FitData",
  "FittedProbe",
  "LabelRows",
  "LabelTask",
  "ProbeInputs",
  "Removal",
  "check_held_out",
  "fit_constant",
  "fit_forest",
  "fit_linear",
  "fit_probes",
  "read_inputs",
  "removals",
  "run_probe",
  "run_robustness",
  "usable_tasks",
]
