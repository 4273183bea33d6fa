"""The one table of a comparison, out of the result files of its cells."""

from __future__ import annotations

import collections
import dataclasses
import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import ml_collections

from aim.common.tables import write_rows
from aim.evaluation import metrics, predictions, results
from aim.evaluation.difference import Difference, model_label, tally
from aim.evaluation.finetuning.run import NAMES
from aim.evaluation.generative import score_files, scores, summary
from aim.evaluation.generative.figures import generative_chart
from aim.evaluation.generative.scores import Scores
from aim.evaluation.probing.robustness import MEAN
from aim.evaluation.results import Result
from aim.studies import job_runner

KINDS = {"evaluate": "Generative tasks", "probe": "Probes", "finetune": "Fine-tuning", "robustness": "Robustness"}
HEADLINE = tuple(metrics.HEADLINE.values())


@dataclasses.dataclass(frozen=True)
class Cell:
  """One model on one fold with one seed.

  Attributes:
    dataset: name in the table; the folds of a data set share it.
    fold: name of the built dataset.
    model: name in the table.
    folder: workdir of its commands.
    commands: each as arguments of the Python interpreter.
  """

  dataset: str
  fold: str
  seed: int
  model: str
  folder: pathlib.Path
  commands: tuple[tuple[str, ...], ...]


def gather(config: ml_collections.ConfigDict, cells: Sequence[Cell], workdir: pathlib.Path) -> None:
  """Writes comparison.csv (aim/evaluation/results.py), comparison.md and commands.csv; prints the tables."""
  found = {mode: list(_of_mode(mode, config, cells)) for mode in config.modes}
  results.write_csv(workdir / "comparison.csv", [line for lines in found.values() for line in lines])
  parts = {mode: [table(mode, lines), *verdicts(mode, lines)] for mode, lines in found.items() if lines}
  text = "\n\n".join("\n\n".join([f"## {KINDS[mode]}", *part]) for mode, part in parts.items())
  (workdir / "comparison.md").write_text(text + "\n", encoding="utf-8")
  _write_commands(cells, workdir / "commands.csv")
  drawn = list(_draw(config, cells, workdir)) if "evaluate" in config.modes else []
  print(f"\n{text}\n")
  for name in ("comparison.csv", "comparison.md", "commands.csv", *drawn):
    print(workdir / name)


def _draw(config: ml_collections.ConfigDict, cells: Sequence[Cell], workdir: pathlib.Path) -> Iterator[str]:
  """A picture of the generative tasks for each data set and seed; yields the files' names."""
  for (dataset, seed), group in _groups(cells).items():
    if found := _pooled(group):
      name = f"generative-{dataset}-seed{seed}.png"
      generative_chart(found.table(config.bootstrap, seed=0), workdir / name)
      yield name


def _groups(cells: Sequence[Cell]) -> Mapping[tuple[str, int], list[Cell]]:
  """Those of all folds and models of a data set and a seed."""
  groups = collections.defaultdict(list)
  for cell in cells:
    groups[cell.dataset, cell.seed].append(cell)
  return groups


def _of_mode(mode: str, config: ml_collections.ConfigDict, cells: Sequence[Cell]) -> Iterable[Result]:
  for (dataset, seed), group in _groups(cells).items():
    if mode == "evaluate":
      yield from generative(group, dataset, seed, config.bootstrap)
    elif mode in ("probe", "finetune"):
      others = tuple(dict.fromkeys(cell.model for cell in group))[1:]
      paths = [path for cell in group if (path := cell.folder / mode / "predictions.csv").exists()]
      against = (*predictions.BASELINES, *NAMES.values(), *others)
      yield from predictions.pool(paths, dataset, config.bootstrap, against=against)
    else:
      # Files of one fold each: people of several folds cannot be pooled from them.
      for path in (cell.folder / mode / "results.csv" for cell in group):
        yield from results.read_csv(path) if path.exists() else ()


def generative(cells: Sequence[Cell], dataset: str, seed: int, n_bootstrap: int) -> list[Result]:
  """Errors of all models on the people of all folds."""
  found = _pooled(cells)
  return summary.contest_results(found, dataset, seed, n_bootstrap, seed=0) if found else []


def _pooled(cells: Sequence[Cell]) -> Scores | None:
  """Of all folds; the imputers' are those that were run beside the first model. None where nothing was evaluated."""
  parts = []
  for cell in cells:
    path = cell.folder / "evaluate" / "people.csv"
    if path.exists():
      part = score_files.load_people(path)
      parts.append(part if cell.model == cells[0].model else scores.only(part, cell.model))
  return scores.merge(parts) if parts else None


def table(mode: str, found: Sequence[Result]) -> str:
  """Markdown: a line a question, a column a model, means over seeds, the best in bold."""
  numbers: dict[tuple[str, str, str, str], dict[str, list[Result]]] = collections.defaultdict(
    lambda: collections.defaultdict(list)
  )
  for line in found:
    if _shown(mode, line, line.metric):
      numbers[line.dataset, line.task, line.level, line.metric][line.model].append(line)
  models = list(dict.fromkeys(model for row in numbers.values() for model in row))
  lines = [["data", "task", "level", "metric", *models], ["---"] * (4 + len(models))]
  for key, row in numbers.items():
    means = {model: _mean([line.value for line in lines]) for model, lines in row.items()}
    known = [mean for mean in means.values() if not math.isnan(mean)]
    best = (min if metrics.lower_is_better(key[3]) else max)(known, default=math.nan)
    lines.append([*key, *(_cell(row.get(model, []), means.get(model, math.nan), best) for model in models)])
  return _markdown(lines)


def verdicts(mode: str, results_of_mode: Sequence[Result]) -> Iterator[str]:
  """Markdown: the first model's paired differences to each other one, first counted, then a row per question.

  With several seeds a field counts their outcomes; there is no interval over seeds.
  """
  shown = [line for line in results_of_mode if line.difference and _shown(mode, line, line.difference.metric)]
  paired = [line for line in shown if line.compares_models]
  if not paired:
    return
  counts = []
  for (dataset, *_, metric), differences in results.differences(paired).items():
    against = next(iter(differences.values())).against
    counts.append(f"- {dataset}, {metric}: {against}: {tally(differences)}")
  yield "\n".join(counts)
  others = list(dict.fromkeys(line.compared_with for line in paired))
  rows: dict[tuple[str, ...], dict[str, dict[str, Difference]]] = {}
  for line in paired:
    if line.difference:
      row = rows.setdefault((line.dataset, line.task, line.level, line.difference.metric, line.model), {})
      row.setdefault(line.compared_with, {})[f"seed {line.seed}"] = line.difference
  lines = [["data", "task", "level", "metric", "model", *(f"against {model_label(other)}" for other in others)]]
  lines.append(["---"] * len(lines[0]))
  for key, row in rows.items():
    lines.append([*key, *(tally(row[other], "seeds") if other in row else "-" for other in others)])
  yield _markdown(lines)


def _markdown(lines: Iterable[Sequence[str]]) -> str:
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(mode: str, line: Result, metric: str) -> bool:
  """Whether a mode's tables show a number of this metric; of robustness they show the mean drop over all settings."""
  if mode == "evaluate":
    return metric == "mse"
  if mode == "robustness":
    return line.task.endswith(MEAN) and metric.endswith(" drop %") and metric.split()[0] in HEADLINE
  return metric in HEADLINE


def _mean(values: Sequence[float]) -> float:
  known = [value for value in values if not math.isnan(value)]
  return sum(known) / len(known) if known else math.nan


def _cell(lines: Sequence[Result], mean: float, best: float) -> str:
  """The mean over seeds, with the interval where there is one seed."""
  if not lines or math.isnan(mean):
    return "-"
  number = f"**{mean:.3g}**" if mean == best else f"{mean:.3g}"
  if len(lines) > 1:
    return f"{number} ({len(lines)} seeds)"
  low, high = lines[0].ci_low, lines[0].ci_high
  return number if math.isnan(low) else f"{number} [{low:.3g}, {high:.3g}]"


def _write_commands(cells: Sequence[Cell], path: pathlib.Path) -> None:
  lines = []
  for cell in cells:
    seconds = job_runner.seconds(cell.folder)
    for line in map(job_runner.spoken, cell.commands):
      lines.append([cell.dataset, cell.fold, cell.seed, cell.model, seconds[line], line])
  write_rows(path, ("dataset", "fold", "seed", "model", "seconds", "command"), lines)
