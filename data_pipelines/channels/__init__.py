"""Channels under their common names: the vocabulary, units, and data of any channels in the terms of another schema.

`vocabulary.yaml` is read by people: one entry per channel, with its place, which never changes.
"""
