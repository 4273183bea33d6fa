"""The generative tasks: observed values are hidden, the model and imputers fill them in, and their errors are compared.

`run` is --mode=evaluate, `heldout_loss` --mode=heldout.
"""

# run, contest and heldout_loss import jax and scikit-learn, so their names are left out here.
from aim.evaluation.generative.score_files import load_people, save_people
from aim.evaluation.generative.scores import ScoreRow, Scores, merge
from aim.evaluation.generative.tasks import GenerativeTask, generative_tasks, hidden_values

__all__ = [
  "GenerativeTask",
  "ScoreRow",
  "Scores",
  "generative_tasks",
  "hidden_values",
  "load_people",
  "merge",
  "save_people",
]
