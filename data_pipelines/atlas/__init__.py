"""The atlas of a dataset: one page of what it holds, and of what is missing, where, when, for how long and why.

`counts` reads the days once, the modules named *_charts and day_chart draw, and `page` puts the sections together.
"""

from data_pipelines.atlas.counts import CAUSES, Counts, StoredDay, cause_of, count_missing

# `page.write` and the charts are left out because they load matplotlib, which takes a second.
__all__ = ["CAUSES", "Counts", "StoredDay", "cause_of", "count_missing"]
