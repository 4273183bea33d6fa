"""A results file as tables with intervals, each row with a plain word on who is best."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from aim.evaluation.difference import Difference, best_other, model_label
from aim.evaluation.metrics import lower_is_better
from aim.evaluation.results import Result
from aim.report import curves
from aim.report.verdicts import sentences, verdict_line
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
    blocks += _pivots(results, set(heads.values()))
    blocks += _paired([result for result in results if result.compares_models and result.difference])
    blocks.append(TextLine(_basis(results)))
  return Section(kind, title, blocks)


def _row(result: Result) -> tuple[str, str, str]:
  return result.dataset, result.task, result.level


def headline(results: Sequence[Result]) -> dict[tuple[str, str, str], str]:
  """The one metric of each (dataset, task, level) that is drawn and judged; the others are in the tables."""
  metrics: dict[tuple[str, str, str], dict[str, None]] = {}
  for result in results:
    if not result.compares_models:
      metrics.setdefault(_row(result), {})[result.metric] = None
  choice = [f"{metric}{suffix}" for suffix in (" drop %", " drop", "") for metric in HEADLINES]
  return {
    row: next((metric for metric in choice if metric in there), next(iter(there))) for row, there in metrics.items()
  }


def told(results: Sequence[Result], workdirs: Sequence[Workdir]) -> list[Block]:
  """What the headlines' paired differences say of the workdirs' models; verdicts after the first MOST folded away."""
  heads, ours = headline(results), {workdir.label for workdir in workdirs}
  lines = sentences(
    [r for r in results if r.model in ours and r.difference and r.difference.metric == heads.get(_row(r))]
  )
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
  """One table per dataset and metric with a column per model; folded away where the metric is no headline."""
  groups: dict[tuple[str, str], list[Result]] = {}
  differences: dict[tuple[tuple[str, str, str], str], list[Difference]] = {}
  for result in results:
    if not result.compares_models:
      groups.setdefault((result.dataset, result.metric), []).append(result)
    elif result.difference:
      differences.setdefault((_row(result), result.difference.metric), []).append(result.difference)
  tables = [
    _pivot(dataset, metric, of_metric, differences, metric not in heads)
    for (dataset, metric), of_metric in groups.items()
  ]
  return sorted(tables, key=lambda table: table.folded)


def _pivot(
  dataset: str,
  metric: str,
  results: Sequence[Result],
  differences: Mapping[tuple[tuple[str, str, str], str], Sequence[Difference]],
  folded: bool,
) -> Table:
  models = list(dict.fromkeys(result.model for result in results))
  by_row: dict[tuple[str, str], dict[str, Result]] = {}
  for result in results:
    by_row.setdefault((result.task, result.level), {})[result.model] = result
  rows = []
  for (task, level), row in by_row.items():
    best = _ranked(list(row.values()))
    fields = [_field(row.get(model), best) for model in models]
    ours = [d for d in differences.get(((dataset, task, level), metric), ()) if d.model == models[0]]
    rows.append([task, level, *fields, _row_verdict(ours, best)])
  better = "lower" if lower_is_better(metric) else "higher"
  columns = ["task", "level", *models, "verdict"]
  return Table(f"{metric} on {dataset} ({better} is better)", columns, rows, folded=folded or len(rows) > LONG)


def _field(result: Result | None, ranked: Sequence[Result]) -> TextLine | str:
  if result is None:
    return ""
  bounds = "" if math.isnan(result.ci_low) else f" [{number(result.ci_low)}, {number(result.ci_high)}]"
  return TextLine(number(result.value) + bounds, "yes" if ranked and result is ranked[0] else "")


def _ranked(results: Sequence[Result]) -> list[Result]:
  """The best first; values that are not defined are left out."""
  known = [result for result in results if not math.isnan(result.value)]
  return sorted(known, key=lambda r: r.value, reverse=bool(known) and not lower_is_better(known[0].metric))


def _row_verdict(differences: Sequence[Difference], ranked: Sequence[Result]) -> TextLine | str:
  """The first model against the best of the others where they were compared on the same people, else who is best."""
  best = best_other(differences)
  if best:
    line = verdict_line(best)
    return TextLine(f"{best.against}: {line.text}", line.tone)
  return overlap(ranked)


def overlap(ranked: Sequence[Result]) -> str:
  """Which model is best, and whose unpaired intervals overlap with its own."""
  if len(ranked) < 2:
    return ""
  best, others = ranked[0], ranked[1:]
  if math.isnan(best.ci_low):
    return f"best: {best.model} (no interval)"
  near = [o.model for o in others if not (o.ci_low > best.ci_high or o.ci_high < best.ci_low)]
  return f"best: {best.model}; its interval overlaps with {', '.join(near) if near else 'no other'}"


def _paired(results: Sequence[Result]) -> list[Table]:
  if not results:
    return []
  rows = [
    [r.task, r.level, d.model, model_label(d.other), d.metric, verdict_line(d), r.dataset]
    for r, d in ((r, r.difference) for r in results)
    if d
  ]
  columns = ["task", "level", "model", "against", "metric", "verdict", "dataset"]
  title = "Paired differences: two models scored on the same people"
  return [Table(title, columns, rows, folded=len(rows) > LONG)]
