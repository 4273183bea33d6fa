"""Attention over sets of tokens, each window on its own: one interface, four backends.

`backends` chooses a backend and calls it; `xla`, `native`, `cudnn` and `splash` each hold one.
"""
