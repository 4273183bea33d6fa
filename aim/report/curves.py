"""Charts of results, as curves or as dots, and the curves of a training run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from aim.common.plotting import as_words, legend_above
from aim.evaluation.results import Result
from aim.report.workdir import Workdir
from aim.training import heldout_curve
from data_pipelines.page.blocks import Block, Section
from data_pipelines.page.chart import MARKERS, SERIES, Chart, panels, slug
from data_pipelines.text_files import counted

_NUMBER = re.compile(r"\d+(\.\d+)?")
MOST_DOTS = 14  # rows of a dot chart

# Keys of metrics.jsonl and the titles of their charts.
TRAINING = {
  "loss": "Training loss",
  "heldout_loss": "The same on people of the split tune, who are not trained on",
  "windows_per_second": "Windows (days) per second",
  "mfu_useful": "MFU (useful FLOPs)",
}


def charts(results: Sequence[Result], kind: str) -> list[Chart]:
  """Draws results: a curve per dataset, task and metric whose levels are numbers, dots per metric for all others.

  Args:
    results: of one kind; paired differences and NaN are left out.
    kind: prefix of the charts' names.
  """
  results = [result for result in results if not result.compares_models and not math.isnan(result.value)]
  colours = _colours([result.model for result in results])
  groups: dict[tuple[str, str, str, str], list[Result]] = {}
  for result in results:
    groups.setdefault((result.dataset, result.metric, result.task, _unit(result.level).rstrip("s")), []).append(result)
  drawn: list[Chart] = []
  rest: dict[tuple[str, str], list[Result]] = {}
  suffix = _suffixes([result.dataset for result in results])
  for (dataset, metric, task, unit), group in groups.items():
    levels = {result.level for result in group}
    if len(levels) > 1 and all(_NUMBER.search(level) for level in levels):
      drawn.append(_curve(suffix[dataset], metric, task, group, colours, slug(kind, dataset, metric, task, unit)))
    else:
      rest.setdefault((dataset, metric), []).extend(group)
  for (dataset, metric), group in rest.items():
    drawn += _dots(suffix[dataset], metric, group, colours, slug(kind, dataset, metric))
  return drawn


def training(workdirs: Sequence[Workdir]) -> Section:
  """The section on the training: losses, speed and MFU against steps."""
  blocks: list[Block] = [workdir.hint("metrics.jsonl", "pretrain") for workdir in workdirs if not workdir.train_log]
  for key, title in TRAINING.items():
    series = {
      workdir.label: [
        (float(line["step"]), float(line[key]))
        for line in (workdir.heldout_log if key == heldout_curve.NAME else workdir.train_log)
        if line.get(key) is not None
      ]
      for workdir in workdirs
    }
    series = {label: points for label, points in series.items() if points}
    if series:
      blocks.append(_training_chart(key, title, series))
  return Section("training", "Training", blocks)


def _training_chart(key: str, title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> Chart:
  figure, [panel] = panels(2.5)
  for i, (label, points) in enumerate(series.items()):
    marker = MARKERS[i % len(MARKERS)] if len(points) < 30 else ""
    panel.plot(*zip(*points, strict=True), color=SERIES[i % len(SERIES)], marker=marker, ms=3.5, lw=1.6, label=label)
  panel.set_xlabel("step")
  panel.margins(x=0.02)
  if not key.endswith("loss"):
    panel.set_ylim(bottom=0)
  legend_above(figure, panel.get_lines())
  rows = [[label, int(step), f"{value:.6g}"] for label, points in series.items() for step, value in points]
  ends = "; ".join(f"{label} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for label, points in series.items())
  return Chart(f"training-{slug(key)}", title, f"Line over steps: {ends}.", figure, ["model", "step", key], rows)


def _suffixes(datasets: Sequence[str]) -> dict[str, str]:
  """Title suffixes that name each dataset; empty if there is only one."""
  several = len(set(datasets)) > 1
  return {dataset: f" ({dataset})" if several else "" for dataset in datasets}


def _unit(level: str) -> str:
  """A level without its number, such as "min" or "% of labels, person"."""
  return _NUMBER.sub("", level, count=1).strip()


def _colours(models: Sequence[str]) -> dict[str, int]:
  return {model: i for i, model in enumerate(dict.fromkeys(models))}


def _curve(
  dataset: str, metric: str, task: str, results: Sequence[Result], colours: Mapping[str, int], name: str
) -> Chart:
  """Draws the levels evenly spaced, so that 1, 5, 10, 50 and 100 % are all readable."""
  value_of = lambda level: float(_NUMBER.search(level)[0])  # type: ignore[index]
  levels = sorted({result.level for result in results}, key=value_of)
  models = list(dict.fromkeys(result.model for result in results))
  figure, [panel] = panels(2.9)
  for i, model in enumerate(models):
    of_model = sorted((r for r in results if r.model == model), key=lambda r: levels.index(r.level))
    places = np.array([levels.index(r.level) for r in of_model]) + 0.5 * ((i + 0.5) / len(models) - 0.5)
    c = colours[model]
    colour = SERIES[c % len(SERIES)]
    panel.plot(
      places,
      [r.value for r in of_model],
      marker=MARKERS[c % len(MARKERS)],
      color=colour,
      ms=4,
      lw=1.5,
      label=as_words(model),
    )
    panel.vlines(places, [r.ci_low for r in of_model], [r.ci_high for r in of_model], color=colour, lw=1.2, alpha=0.6)
  panel.set_xticks(range(len(levels)), [f"{value_of(level):g}" for level in levels])
  panel.set_xlabel(_unit(levels[-1]))
  panel.set_xlim(-0.5, len(levels) - 0.5)
  legend_above(figure, panel.get_lines())
  title = f"{task}: {metric}{dataset}"
  alt = f"{metric} of {task} at {', '.join(levels)}: a line with intervals for each of {len(models)} models."
  return Chart(name, title, alt, figure, *_numbers(results))


def _dots(dataset: str, metric: str, results: Sequence[Result], colours: Mapping[str, int], name: str) -> list[Chart]:
  """Dots with intervals, one row per task and level; several charts if there are many."""
  rows = list(dict.fromkeys((result.task, result.level) for result in results))
  parts = [rows[i : i + MOST_DOTS] for i in range(0, len(rows), MOST_DOTS)]
  tasks = {task for task, _ in rows}
  about = f"{tasks.pop()}: " if len(tasks) == 1 else ""
  made = []
  for i, part in enumerate(parts):
    of_part = [result for result in results if (result.task, result.level) in part]
    of = f", part {i + 1} of {len(parts)}" if len(parts) > 1 else ""
    made.append(_dot_chart(f"{about}{metric}{dataset}{of}", metric, part, of_part, colours, f"{name}-{i + 1}"))
  return made


def _dot_chart(
  title: str,
  metric: str,
  rows: Sequence[tuple[str, str]],
  results: Sequence[Result],
  colours: Mapping[str, int],
  name: str,
) -> Chart:
  models = list(dict.fromkeys(result.model for result in results))
  spread = 0.8 if len(models) > 1 else 0.0
  figure, [panel] = panels(1.1 + len(rows) * (0.24 + 0.05 * len(models)))
  for i, model in enumerate(models):
    of_model = [result for result in results if result.model == model]
    y = np.array([rows.index((r.task, r.level)) for r in of_model]) + spread * ((i + 0.5) / len(models) - 0.5)
    c = colours[model]
    colour = SERIES[c % len(SERIES)]
    panel.plot([r.value for r in of_model], y, MARKERS[c % len(MARKERS)], color=colour, ms=4, label=as_words(model))
    panel.hlines(y, [r.ci_low for r in of_model], [r.ci_high for r in of_model], color=colour, lw=1.3, alpha=0.7)
  tasks = {task for task, _ in rows}
  one_level = len({level for _, level in rows}) == 1
  label = lambda task, level: (
    as_words(task) if one_level else level if len(tasks) == 1 else f"{as_words(task)}, {level}"
  )
  panel.set_yticks(range(len(rows)), [label(*row) for row in rows])
  panel.set_ylim(len(rows) - 0.4, -0.6)
  panel.set_xlabel(metric)
  panel.grid(visible=True, axis="x")
  panel.grid(visible=False, axis="y")
  legend_above(figure, panel.get_lines())
  alt = f"{metric} of {counted(len(models), 'model')}: dots with intervals, in {counted(len(rows), 'row')}."
  return Chart(name, title, alt, figure, *_numbers(results))


def _numbers(results: Sequence[Result]) -> tuple[list[str], list[list[object]]]:
  field = lambda value: "" if math.isnan(value) else f"{value:.4g}"
  columns = ["task", "level", "model", "value", "95 % low", "95 % high", "people", "seed"]
  rows: list[list[object]] = [
    [r.task, r.level, r.model, field(r.value), field(r.ci_low), field(r.ci_high), r.n_people, r.seed] for r in results
  ]
  if any(r.n_labelled_people is not None for r in results):
    columns.append("people whose labels were seen")
    for row, r in zip(rows, results, strict=True):
      row.append("" if r.n_labelled_people is None else r.n_labelled_people)
  return columns, rows
