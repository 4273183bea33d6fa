"""From the export of a watch, an app or a study to readings on a grid of days.

`reading` opens files, `importers` know formats, `gridding` puts readings on minutes.
"""
