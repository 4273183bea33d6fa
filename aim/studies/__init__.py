"""Many runs as one experiment: a runner of resumable jobs, and the studies built on it.

`compare` sets models side by side, `scaling` fits power laws.
"""
