"""The page: which sections there are, in which order, and the files."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import ml_collections

from aim.common.config_files import ConfigError
from aim.report import atlas, cards, curves, days, embedding, tables
from aim.report.workdir import RESULTS, Workdir, tell_apart, together
from data_pipelines.page import chart, document
from data_pipelines.page.blocks import Block, Section, Table, TextLine


def write(workdirs: Sequence[Workdir], config: ml_collections.ConfigDict, output: pathlib.Path) -> pathlib.Path:
  """Writes index.html and each chart's PNG and CSV to `output`; returns the page's path.

  Args:
    workdirs: the first is the page's own, others stand beside it.
    config: with the groups evaluate (whose split is drawn) and report.
    output: folder; charts of an earlier report in it are removed.
  """
  if "report" not in config:
    raise ConfigError("config.json has no group 'report', it is of an older version of this program; give --config=...")
  tell_apart(workdirs)
  output.mkdir(parents=True, exist_ok=True)  # before anything that takes long
  with chart.style():
    sections = _sections(workdirs, config.report, config.evaluate.split)
    return document.write(sections, " beside ".join(workdir.label for workdir in workdirs), "report", output)


def _sections(workdirs: Sequence[Workdir], config: ml_collections.ConfigDict, split: str) -> list[Section]:
  datasets = {workdir.dataset.path if workdir.dataset else workdir.path: workdir for workdir in reversed(workdirs)}
  sections = [_summary(workdirs, split), days.section(workdirs, split, config.days)]
  sections += [tables.section(workdirs, kind) for kind in RESULTS]
  sections.append(curves.training(workdirs))
  sections += [
    embedding.section(workdir, split, config.embedding_days, f"map-{i + 1}") for i, workdir in enumerate(workdirs)
  ]
  each = list(reversed(datasets.values()))
  sections += [atlas.section(workdir, config.atlas_days, f"atlas-{i + 1}") for i, workdir in enumerate(each)]
  sections.append(Section("data", "Data card", [block for workdir in each for block in cards.data(workdir)]))
  sections.append(Section("model", "Model card", cards.models(workdirs)))
  sections.append(cards.configs(workdirs))
  return sections


def _summary(workdirs: Sequence[Workdir], split: str) -> Section:
  """Which models these are, and what was found, in a few lines."""
  rows = [
    [
      workdir.label,
      workdir.dataset.name if workdir.dataset else "not there",
      f"{workdir.model.trained_steps:,}" if workdir.model else "not trained",
      f"{cards.parameters(workdir):,}" if workdir.model else "",
      len(workdir.dataset.people(split)) if workdir.dataset else "",
      str(workdir.path),
    ]
    for workdir in workdirs
  ]
  columns = ["model", "trained on", "steps", "parameters", "people held out", "workdir"]
  verdicts = [block for kind in RESULTS for block in tables.told(together(workdirs, kind), workdirs)]
  none = TextLine("No comparison yet: the sections below name the commands that make them.", "hint")
  blocks: list[Block] = [Table("", columns, rows), *(verdicts or [none])]
  return Section("summary", "In short", blocks)
