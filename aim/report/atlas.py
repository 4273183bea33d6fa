"""The missingness of a dataset: how much is missing, in which channels, when, for how long and why."""

from __future__ import annotations

from aim.report.workdir import Workdir
from data_pipelines.atlas import missing_charts
from data_pipelines.atlas.counts import count_missing
from data_pipelines.page.blocks import Block, Section, TextLine


def section(workdir: Workdir, days: int, name: str) -> Section:
  """The section on a workdir's dataset.

  Args:
    workdir: gives the dataset.
    days: number of days to count, spread evenly over all splits.
    name: prefix of the charts' names.
  """
  if workdir.dataset is None:
    return Section(name, "Missingness", [TextLine(f"No dataset to show: {workdir.missing['dataset']}", "hint")])
  dataset = workdir.dataset
  counts = count_missing(dataset, days, ranges=False)
  blocks: list[Block] = [
    missing_charts.summary(counts, dataset.name),
    missing_charts.by_channel(counts, f"{name}-channels"),
    missing_charts.by_hour(counts, f"{name}-hours"),
    missing_charts.by_length(counts, f"{name}-lengths"),
    TextLine("This command writes the full atlas, with people, values and splits:", "hint", _command(workdir)),
  ]
  return Section(name, f"Missingness: {dataset.name}", blocks)


def _command(workdir: Workdir) -> str:
  data = workdir.config.data
  return f"python -m data_pipelines.atlas --data={data.name} --data_dir={data.dir}"
