"""Evaluation of a model on people it never saw: generative tasks, probes, fine-tuning and robustness.

`results` is the file format that all of them write: one row per number, with an interval over people.
"""

from aim.evaluation.difference import Difference, Outcome
from aim.evaluation.metrics import lower_is_better
from aim.evaluation.results import Result, ResultsError, read_csv, write_csv

__all__ = ["Difference", "Outcome", "Result", "ResultsError", "lower_is_better", "read_csv", "write_csv"]
