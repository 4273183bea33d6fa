"""A trained model in use: `aim.load` gives a `Pretrained` that embeds, imputes and reconstructs days.

Nothing here trains.
"""
