"""How good a model is, on people it never saw: generative tasks, probes, fine-tuning, robustness.

`results` holds what all of them write: one row per number, with an interval over people.
"""
