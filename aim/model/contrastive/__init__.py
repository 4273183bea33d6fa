"""The self-distilled and contrastive baselines on the same encoder: views of a day, SimCLR, DINO, MSN.

They train in `aim.training.contrastive_step`.
"""
