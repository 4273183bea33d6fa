"""--mode=report: one self-contained HTML page about a workdir, or several side by side.

`page` orders the sections; each other module makes one kind of section.
"""

# No names are re-exported: experiments/default.py reads aim.report.defaults, and page and workdir import jax.
