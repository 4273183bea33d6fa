"""Who does the work of a build: this process, several of this machine, or a cluster. The results are the same."""

from data_pipelines.runners.processes import Processes
from data_pipelines.runners.runner import Report, Runner, Work, in_this_process

# Beam is left out because apache-beam is an optional extra: see data_pipelines.runners.beam.
__all__ = ["Processes", "Report", "Runner", "Work", "in_this_process"]
