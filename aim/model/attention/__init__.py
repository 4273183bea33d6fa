"""Attention over sets of tokens, each window on its own: one interface and four backends.

`backends` chooses a backend and calls it; `xla`, `native`, `cudnn` and `splash` hold one each.
"""

from aim.model.attention.backends import BACKENDS, choose_backend, packed_attention, padded_attention

__all__ = ["BACKENDS", "choose_backend", "packed_attention", "padded_attention"]
