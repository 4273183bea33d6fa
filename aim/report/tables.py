"""A results file as tables with intervals, each row with a plain word on who is best."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aim.report import curves
from aim.report.blocks import Block, Line, Section, Table, number
from aim.report.verdicts import Difference, differences, interval, is_paired, more_is_better, summary
from aim.report.workdir import RESULTS, Workdir, together
from aim.results import Result

LONG = 30  # rows of a table that is folded away

_ABOUT = {
  "generative": ("Filling holes", "Cells that were hidden on purpose, the same for all methods."),
  "gap_length": ("Error against the length of the gap", ""),
  "probe": ("Probes of the frozen embedding", "A linear model on each day's or person's embedding."),
  "finetune": ("Fine-tuning", "The model itself trained further on labels, all of them or a part."),
  "robustness": ("Robustness", "The same probes, not refitted, when a sensor or a part of the day is lost."),
}


def section(workdirs: Sequence[Workdir], kind: str) -> Section:
  """Verdicts, charts and tables of one kind of results, all workdirs side by side."""
  title, lead = _ABOUT[kind]
  blocks: list[Block] = [Line(lead)] if lead else []
  file, mode = RESULTS[kind]
  blocks += [
    Line(f"{workdir.label}: no {file} yet. It is made by: {workdir.command(mode)}", "hint")
    for workdir in workdirs
    if not workdir.results(kind)
  ]
  results = together(workdirs, kind)
  if results:
    found = differences(results)
    blocks += summary(found)
    blocks += curves.charts(results, kind)
    blocks += _pivots([result for result in results if not is_paired(result)])
    blocks += _paired(found)
    blocks.append(Line(_basis(results)))
  return Section(kind, title, blocks)


def _basis(results: Sequence[Result]) -> str:
  people = sorted({result.n_people for result in results})
  seeds = sorted({result.seed for result in results})
  count = f"{people[0]}" if len(people) == 1 else f"{people[0]} to {people[-1]}"
  return (
    f"Held-out people: {count}. In brackets: 95 % bootstrap intervals over people. "
    f"Seed{'s' * (len(seeds) > 1)} of the training: {', '.join(map(str, seeds))}."
  )


def _pivots(results: Sequence[Result]) -> list[Table]:
  """One table for each dataset and metric, a column for each model."""
  groups: dict[tuple[str, str], list[Result]] = {}
  for result in results:
    groups.setdefault((result.dataset, result.metric), []).append(result)
  return [_pivot(dataset, metric, each) for (dataset, metric), each in groups.items()]


def _pivot(dataset: str, metric: str, results: Sequence[Result]) -> Table:
  models = list(dict.fromkeys(result.model for result in results))
  cells: dict[tuple[str, str], dict[str, Result]] = {}
  for result in results:
    cells.setdefault((result.task, result.level), {})[result.model] = result
  rows = []
  for (task, level), row in cells.items():
    best = _ranked(list(row.values()))
    cell = lambda result, best=best: (
      "" if result is None else Line(_cell(result), "yes" if best and result is best[0] else "")
    )
    rows.append([task, level, *(cell(row.get(model)) for model in models), in_words(best)])
  better = "higher" if more_is_better(metric) else "lower"
  columns = ["task", "level", *models, "in words"]
  return Table(f"{metric} on {dataset} ({better} is better)", columns, rows, folded=len(rows) > LONG)


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
    [d.result.dataset, d.result.task, d.result.level, d.result.model, d.other, d.measure, d.amount, d.answer]
    for d in found
  ]
  columns = ["dataset", "task", "level", "model", "against", "measure", "difference", "beats it?"]
  return [
    Table("Paired differences: the same people, one model against another", columns, rows, folded=len(rows) > LONG)
  ]
