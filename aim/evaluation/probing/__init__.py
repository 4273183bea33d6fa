"""Frozen embeddings: what linear probes read from them, and what is lost when a sensor is removed.

`run` is --mode=probe, `robustness` is --mode=robustness.
"""
