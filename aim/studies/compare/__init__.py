"""Several models trained and scored on the same people, in one table.

`run` is --mode=compare.
"""
