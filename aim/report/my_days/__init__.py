"""--mode=report with --input or --data: days of one's own, embedded, filled and drawn on one page, with no training.

`command` runs it; `own_days` reads what it is given, `unlike` finds the days that are unlike the others, `filled_days`
computes, and `sections` and `day_charts` say and draw it.
"""
