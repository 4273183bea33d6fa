"""The section on one kind of results: verdicts, charts, and tables with intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

from aim.evaluation.difference import WORDS, Difference, best_other, bounds, model_label
from aim.evaluation.generative import clipping
from aim.evaluation.generative.summary import BY_CHANNEL, channel_notes, line_notes
from aim.evaluation.metrics import lower_is_better
from aim.evaluation.results import Result, folds_note, no_better_than_constant, read_csv, seen_note
from aim.report import curves
from aim.report.verdicts import sentences, verdict_line
from aim.report.workdir import RESULTS, Workdir, merged_results
from data_pipelines.page.blocks import Block, Section, Table, TextLine, number

HEADLINES = ("mse", "auroc", "f1_macro", "f1", "mae")  # the first of these that a task has
MOST_VERDICTS = 10  # that are not folded away
LONG = 30  # rows; a longer table is folded away

_ABOUT = {
  "generative": (
    "Filling gaps",
    "Some recorded values were hidden on purpose, the same ones from every method. The error of what each method fills "
    "in is measured on them: mse is the mean squared error in z-scores, averaged over the channels; lower is better.",
  ),
  "probe": (
    "Probes of the frozen embedding",
    "Linear models predict labels from the embedding of a day or of a person. The network itself learns nothing new.",
  ),
  "finetune": ("Fine-tuning", "The network itself is trained further on labels, on all of them or on a share."),
  "robustness": (
    "Robustness",
    "The same probes, not fitted again, on days that lost a sensor or a part of the day. A drop is how much worse the "
    "score is than on whole days.",
  ),
}


def section(workdirs: Sequence[Workdir], kind: str) -> Section:
  """The section on one kind of results, all workdirs side by side.

  Args:
    workdirs: their models are judged; baselines stand beside them.
    kind: a key of RESULTS.

  Raises:
    ResultsError: a results file cannot be read.
  """
  title, lead = _ABOUT[kind]
  blocks: list[Block] = [TextLine(lead)]
  file, mode = RESULTS[kind]
  blocks += [TextLine(f"note: {workdir.left_out[kind]}") for workdir in workdirs if kind in workdir.left_out]
  absent = [workdir for workdir in workdirs if not workdir.results(kind) and kind not in workdir.left_out]
  blocks += [workdir.hint(file, mode) for workdir in absent]
  results = merged_results(workdirs, kind)
  if results:
    headlines = headline_metrics(results)
    blocks += headline_verdicts(results, workdirs)
    blocks += curves.charts([result for result in results if headlines.get(_row(result)) == result.metric], kind)
    blocks += _pivots(results, set(headlines.values()))
    blocks += [TextLine(note) for note in _notes(workdirs, kind, results)]
    blocks += _paired([result for result in results if result.compares_models and result.difference])
    blocks += [TextLine(f"note: {note}") for note in (seen_note(results),) if note]
    blocks.append(TextLine(_basis(results)))
  return Section(kind, title, blocks)


def _notes(workdirs: Sequence[Workdir], kind: str, results: Sequence[Result]) -> list[str]:
  """Notes beside the tables of generative tasks: channels, models that return a line, truths that are clipped."""
  if kind != "generative":
    return []
  workdirs = [workdir for workdir in workdirs if kind not in workdir.left_out]
  paths = [workdir.path / "evaluate" / "clipped.csv" for workdir in workdirs]
  clipped = [row for path in paths if path.is_file() for row in clipping.read_csv(path)]
  return [*_by_channel(workdirs), *line_notes(results), *clipping.notes(list(dict.fromkeys(clipped)))]


def _by_channel(workdirs: Sequence[Workdir]) -> list[str]:
  """Notes on channels where a model is worse than linear interpolation, which a mean over channels hides."""
  lines: list[Result] = []
  for workdir in workdirs:
    path = workdir.path / "evaluate" / BY_CHANNEL
    rows = read_csv(path) if path.is_file() else []
    lines += [dataclasses.replace(row, model=workdir.label) for row in rows]
  return list(channel_notes(lines))


def _row(result: Result) -> tuple[str, str, str]:
  return result.dataset, result.task, result.level


def headline_metrics(results: Sequence[Result]) -> dict[tuple[str, str, str], str]:
  """The one metric of each (dataset, task, level) that is drawn and judged; the tables have the others too."""
  metrics: dict[tuple[str, str, str], dict[str, None]] = {}
  for result in results:
    if not result.compares_models:
      metrics.setdefault(_row(result), {})[result.metric] = None
  choice = [f"{metric}{suffix}" for suffix in (" drop %", " drop", "") for metric in HEADLINES]
  return {
    row: next((metric for metric in choice if metric in known), next(iter(known))) for row, known in metrics.items()
  }


def headline_verdicts(results: Sequence[Result], workdirs: Sequence[Workdir]) -> list[Block]:
  """Verdicts on the workdirs' models in the headline metrics; those after the first MOST_VERDICTS are folded away."""
  headlines, ours = headline_metrics(results), {workdir.label for workdir in workdirs}
  lines = sentences(
    [r for r in results if r.model in ours and r.difference and r.difference.metric == headlines.get(_row(r))]
  )
  notes = no_better_than_constant(r for r in results if r.difference and r.difference.metric == headlines.get(_row(r)))
  lines += [TextLine(note) for note in notes]
  more = [Table("More verdicts", ["verdict"], [[line] for line in lines[MOST_VERDICTS:]], folded=True)]
  return [*lines[:MOST_VERDICTS], *(more if lines[MOST_VERDICTS:] else [])]


def _basis(results: Sequence[Result]) -> str:
  people = sorted({result.n_people for result in results})
  seeds = sorted({result.seed for result in results})
  count = f"{people[0]}" if len(people) == 1 else f"{people[0]} to {people[-1]}"
  return (
    f"Held-out people: {count}. Brackets give 95 % bootstrap intervals over people. Verdicts: {WORDS} "
    f"{folds_note(results)} Training seed{'s' * (len(seeds) > 1)}: {', '.join(map(str, seeds))}."
  )


def _pivots(results: Sequence[Result], headlines: Collection[str]) -> list[Table]:
  """One table per dataset and metric with a column per model; folded away where the metric is no headline."""
  groups: dict[tuple[str, str], list[Result]] = {}
  differences: dict[tuple[tuple[str, str, str], str], list[Difference]] = {}
  for result in results:
    if not result.compares_models:
      groups.setdefault((result.dataset, result.metric), []).append(result)
    elif result.difference:
      differences.setdefault((_row(result), result.difference.metric), []).append(result.difference)
  tables = [
    _pivot(dataset, metric, of_metric, differences, metric not in headlines)
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
    rows.append([task, level, _row_verdict(ours, best), *fields])
  better = "lower" if lower_is_better(metric) else "higher"
  columns = ["task", "level", "verdict", *models]
  return Table(f"{metric} on {dataset} ({better} is better)", columns, rows, folded=folded or len(rows) > LONG)


def _field(result: Result | None, ranked: Sequence[Result]) -> TextLine | str:
  if result is None:
    return ""
  interval = bounds(result.ci_low, result.ci_high, number)
  return TextLine(number(result.value) + interval, "yes" if ranked and result is ranked[0] else "")


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
  """Names the best model, and those whose unpaired intervals overlap with its own."""
  if len(ranked) < 2:
    return ""
  best, others = ranked[0], ranked[1:]
  if not bounds(best.ci_low, best.ci_high, number):
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
