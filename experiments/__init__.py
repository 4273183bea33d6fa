"""Experiment configs: values only. Every file's get_config() starts from experiments.default."""
