"""What a person's other days say about a day: their mean at each step, and of how many days it is.

`other_days` chooses and reads the days of a dataset, `profile` averages days, those of arrays too.
"""
