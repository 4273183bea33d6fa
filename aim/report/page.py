"""The report page: its sections, their order, and the files."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import ml_collections

from aim.report import atlas, cards, curves, days, embedding, tables
from aim.report.workdir import RESULTS, Workdir, merged_results, set_labels
from aim.runtime import working_copy
from data_pipelines.page import chart, document
from data_pipelines.page.blocks import Block, Section, Table, TextLine


def write(workdirs: Sequence[Workdir], config: ml_collections.ConfigDict, output: pathlib.Path) -> pathlib.Path:
  """Writes index.html and a PNG and a CSV for each chart.

  Args:
    workdirs: the page is about the first; the others are compared with it.
    config: a config with the groups evaluate (whose split is drawn) and report.
    output: folder to write to; charts of an earlier report in it are removed.

  Returns:
    Path of index.html.

  Raises:
    UserError: a results file cannot be read.
  """
  set_labels(workdirs)
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
  first_of_each_dataset = list(reversed(datasets.values()))
  sections += [
    atlas.section(workdir, config.atlas_days, f"atlas-{i + 1}") for i, workdir in enumerate(first_of_each_dataset)
  ]
  sections.append(
    Section("data", "Data card", [block for workdir in first_of_each_dataset for block in cards.data_card(workdir)])
  )
  sections.append(Section("model", "Model card", cards.model_cards(workdirs)))
  sections.append(cards.config_section(workdirs))
  return sections


def _summary(workdirs: Sequence[Workdir], split: str) -> Section:
  """The models, and the verdicts on them, in a few lines."""
  rows = [
    [
      workdir.label,
      workdir.dataset.name if workdir.dataset else "no dataset here",
      f"{workdir.model.trained_steps:,}" if workdir.model else "not trained",
      f"{cards.parameter_count(workdir):,}" if workdir.model else "",
      len(workdir.dataset.people(split)) if workdir.dataset else "",
      working_copy.renamed(str(workdir.path)),
    ]
    for workdir in workdirs
  ]
  columns = ["model", "trained on", "steps", "parameters", "people held out", "workdir"]
  verdicts = [block for kind in RESULTS for block in tables.headline_verdicts(merged_results(workdirs, kind), workdirs)]
  none = TextLine("There is no comparison yet; the sections below name the commands that make one.", "hint")
  blocks: list[Block] = [Table("", columns, rows), *(verdicts or [none])]
  return Section("summary", "Summary", blocks)
