"""Experiments: one config per file, values only. --config=NAME runs one of these; --config=FILE.py runs your own.

Every get_config() starts from experiments.default, where all keys are, and changes what its docstring says. A file of
your own can start from any of them: `from experiments import lsm2_tiny`.
"""
