"""The generative tasks: observed values are hidden, models and imputers fill them, errors are compared.

`run` is --mode=evaluate.
"""
