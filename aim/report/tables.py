"""A results file as tables with intervals, each row with a plain word on who is best."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from aim.evaluation.results import Result
from aim.report import curves
from aim.report.verdicts import Difference, differences, interval, is_paired, more_is_better, summary
from aim.report.workdir import RESULTS, Workdir, together
from data_pipelines.page.blocks import Block, Section, Table, TextLine, number

HEADLINES = ("mse", "auroc", "f1_macro", "f1", "mae")  # the first that a task has
MOST = 10  # verdicts at once
LONG = 30  # rows of a table that is folded away

_ABOUT = {
  "generative": ("Filling holes", "Cells that were hidden on purpose, the same for all methods."),
  "probe": ("Probes of the frozen embedding", "A linear model on each day's or person's embedding."),
  "finetune": ("Fine-tuning", "The model itself trained further on labels, all of them or a part."),
  "robustness": ("Robustness", "The same probes, not refitted, when a sensor or a part of the day is lost."),
}


def section(workdirs: Sequence[Workdir], kind: str) -> Section:
  """Verdicts, charts and tables of one kind of results, all workdirs side by side."""
  title, lead = _ABOUT[kind]
  blocks: list[Block] = [TextLine(lead)]
  file, mode = RESULTS[kind]
  blocks += [workdir.hint(file, mode) for workdir in workdirs if not workdir.results(kind)]
  results = together(workdirs, kind)
  if results:
    heads = headline(results)
    blocks += told(results, workdirs)
    blocks += curves.charts([result for result in results if heads.get(_row(result)) == result.metric], kind)
    blocks += _pivots([result for result in results if not is_paired(result)], set(heads.values()))
    blocks += _paired(differences(results))
    blocks.append(TextLine(_basis(results)))
  return Section(kind, title, blocks)


def _row(result: Result) -> tuple[str, str, str]:
  return result.dataset, result.task, result.level


def headline(results: Sequence[Result]) -> dict[tuple[str, str, str], str]:
  """The one metric of each (dataset, task, level) that is drawn and judged; the others are in the tables."""
  metrics: dict[tuple[str, str, str], dict[str, None]] = {}
  for result in results:
    if not is_paired(result):
      metrics.setdefault(_row(result), {})[result.metric] = None
  choice = [f"{metric}{suffix}" for suffix in (" drop %", " drop", "") for metric in HEADLINES]
  return {
    row: next((metric for metric in choice if metric in there), next(iter(there))) for row, there in metrics.items()
  }


def told(results: Sequence[Result], workdirs: Sequence[Workdir]) -> list[Block]:
  """What the headlines' paired differences say of the workdirs' models; verdicts after the first MOST folded away."""
  heads, ours = headline(results), {workdir.label for workdir in workdirs}
  judged = [d for d in differences(results) if d.result.model in ours and heads.get(_row(d.result)) == d.measure]
  lines = summary(judged)
  more = [Table("More verdicts", ["verdict"], [[line] for line in lines[MOST:]], folded=True)]
  return [*lines[:MOST], *(more if lines[MOST:] else [])]


def _basis(results: Sequence[Result]) -> str:
  people = sorted({result.n_people for result in results})
  seeds = sorted({result.seed for result in results})
  count = f"{people[0]}" if len(people) == 1 else f"{people[0]} to {people[-1]}"
  return (
    f"Held-out people: {count}. In brackets: 95 % bootstrap intervals over people. "
    f"Seed{'s' * (len(seeds) > 1)} of the training: {', '.join(map(str, seeds))}."
  )


def _pivots(results: Sequence[Result], heads: Collection[str]) -> list[Table]:
  """One table for each dataset and metric, a column for each model; folded away where it is no headline."""
  groups: dict[tuple[str, str], list[Result]] = {}
  for result in results:
    groups.setdefault((result.dataset, result.metric), []).append(result)
  tables = [_pivot(dataset, metric, each, metric not in heads) for (dataset, metric), each in groups.items()]
  return sorted(tables, key=lambda table: table.folded)


def _pivot(dataset: str, metric: str, results: Sequence[Result], folded: bool) -> Table:
  models = list(dict.fromkeys(result.model for result in results))
  cells: dict[tuple[str, str], dict[str, Result]] = {}
  for result in results:
    cells.setdefault((result.task, result.level), {})[result.model] = result
  rows = []
  for (task, level), row in cells.items():
    best = _ranked(list(row.values()))
    cell = lambda result, best=best: (
      "" if result is None else TextLine(_cell(result), "yes" if best and result is best[0] else "")
    )
    rows.append([task, level, *(cell(row.get(model)) for model in models), in_words(best)])
  better = "higher" if more_is_better(metric) else "lower"
  columns = ["task", "level", *models, "in words"]
  return Table(f"{metric} on {dataset} ({better} is better)", columns, rows, folded=folded or len(rows) > LONG)


def _ranked(results: Sequence[Result]) -> list[Result]:
  """The best first."""
  there = [result for result in results if not math.isnan(result.value)]
  return sorted(there, key=lambda r: r.value, reverse=bool(there) and more_is_better(there[0].metric))


def in_words(ranked: Sequence[Result]) -> str:
  """Who is best, and whether the others' intervals leave room for doubt."""
  if len(ranked) < 2:
    return ""
  best, others = ranked[0], ranked[1:]
  if math.isnan(best.ci_low):
    return f"lowest or highest: {best.model}, without an interval"
  near = [o.model for o in others if not (o.ci_low > best.ci_high or o.ci_high < best.ci_low)]
  return f"best: {best.model}" + (
    f"; within its interval: {', '.join(near)}" if near else ", beyond all others' intervals"
  )


def _cell(result: Result) -> str:
  return number(result.value) + interval(result)


def _paired(found: Sequence[Difference]) -> list[Table]:
  if not found:
    return []
  rows = [
    [d.result.task, d.result.level, d.result.model, d.other, d.measure, d.answer, d.amount, d.result.dataset]
    for d in found
  ]
  columns = ["task", "level", "model", "against", "measure", "beats it?", "difference", "dataset"]
  return [
    Table("Paired differences: the same people, one model against another", columns, rows, folded=len(rows) > LONG)
  ]
