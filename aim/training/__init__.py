"""One training run: the pretraining loop, its steps, the optimiser, checkpoints and logs.

`pretrain` is the loop, `masked_step` the pure step.
"""
