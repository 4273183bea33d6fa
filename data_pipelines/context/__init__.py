"""Profiles of a person's other days: their mean at each step, and the number of days behind it.

`other_days` chooses and reads the days of a dataset, `profile` averages days, those of arrays too.
"""
