"""Held-out loss against people, hours, parameters and compute, and power laws through it.

`run` is --mode=scaling.
"""
