"""The atlas of a dataset: one page of what is in it, what is missing, where, when, for how long and why."""
