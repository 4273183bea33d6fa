"""Before a run is paid for: what it needs on a slice that is not here, and how it scales.

`preflight` compiles the real step, `scale_out` extrapolates from it.
"""
