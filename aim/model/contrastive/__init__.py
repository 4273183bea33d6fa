"""Contrastive and self-distilled baselines on the same encoder: views of a day, SimCLR, DINO and MSN.

`aim.training.contrastive_step` trains them.
"""

from aim.model.contrastive.dino import Dino
from aim.model.contrastive.msn import Msn
from aim.model.contrastive.simclr import Simclr
from aim.model.contrastive.views import Changes, Crop, ViewSet, view_sets

__all__ = ["Changes", "Crop", "Dino", "Msn", "Simclr", "ViewSet", "view_sets"]
