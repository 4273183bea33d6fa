"""The tables of a comparison, from the result files of its cells."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import ml_collections
from tqdm import tqdm

from aim.common.progress import progress_bar
from aim.common.tables import write_rows
from aim.evaluation import metrics, predictions, results
from aim.evaluation.difference import WORDS, Difference, bounds, model_label, tally
from aim.evaluation.finetuning.learning_curve import draw_learning_curves
from aim.evaluation.finetuning.run import NAMES
from aim.evaluation.generative import clipping, score_files, scores, summary
from aim.evaluation.generative.figures import generative_chart
from aim.evaluation.generative.scores import Scores
from aim.evaluation.probing import robustness
from aim.evaluation.results import Result
from aim.studies import job_runner
from aim.studies.job_runner import Command
from data_pipelines.text_files import counted, plain_number

KINDS = {"evaluate": "Generative tasks", "probe": "Probes", "finetune": "Fine-tuning", "robustness": "Robustness"}
HEADLINE = tuple(metrics.HEADLINE.values())


@dataclasses.dataclass(frozen=True)
class CompareCell:
  """One model on one fold with one seed.

  Attributes:
    dataset: name in the tables; the folds of a dataset share it.
    fold: name of the built dataset.
    model: name in the tables.
    folder: workdir of its commands.
    by_mode: the command of each --mode, in the order they run.
  """

  dataset: str
  fold: str
  seed: int
  model: str
  folder: pathlib.Path
  by_mode: Mapping[str, Command]

  @property
  def commands(self) -> tuple[Command, ...]:
    """The cell's commands in the order they run, for the job runner."""
    return tuple(self.by_mode.values())


@dataclasses.dataclass(frozen=True)
class CellGroup:
  """The cells of all folds and models on one dataset with one seed, which share a table.

  Attributes:
    cells: in the order they ran.
    reference: name of the model that comes first in the tables; "" for the first that ran.
  """

  dataset: str
  seed: int
  cells: tuple[CompareCell, ...]
  reference: str

  @property
  def leader(self) -> str:
    """The model that comes first in the tables."""
    return self.reference or self.cells[0].model

  @property
  def other_models(self) -> list[str]:
    """The models that the leader is compared with, in the order they ran."""
    return [model for model in dict.fromkeys(cell.model for cell in self.cells) if model != self.leader]

  def files(self, mode: str, name: str) -> list[pathlib.Path]:
    """The files of this name that a mode has written, those of the leader first."""
    led = sorted(self.cells, key=lambda cell: cell.model != self.leader)
    return [path for cell in led if (path := cell.folder / mode / name).exists()]

  @functools.cached_property
  def scores(self) -> Scores | None:
    """The scores of all folds, with the imputers that ran beside the first model of them; None without any."""
    scored = [(cell.model, path) for cell in self.cells if (path := cell.folder / "evaluate" / "people.csv").exists()]
    loaded = ((model, score_files.load_people(path)) for model, path in scored)
    parts = [part if model == scored[0][0] else scores.only(part, model) for model, part in loaded]
    if not parts:
      return None
    pooled = scores.merge(parts)
    return scores.led_by(pooled, self.reference) if self.reference else pooled


def gather(config: ml_collections.ConfigDict, cells: Sequence[CompareCell], workdir: pathlib.Path) -> None:
  """Writes comparison.csv (aim/evaluation/results.py), comparison.md and commands.csv; prints the tables."""
  groups = _groups(cells, config.reference)
  with progress_bar(len(groups) * len(config.modes), "gather", "table") as bar:
    by_group = {mode: list(_results_of_mode(mode, groups, config.bootstrap, bar)) for mode in config.modes}
  by_mode = {mode: [line for lines in of_groups for line in lines] for mode, of_groups in by_group.items()}
  results.write_csv(workdir / "comparison.csv", [line for lines in by_mode.values() for line in lines])
  parts = {
    mode: [
      table(mode, lines),
      *notes(mode, lines, groups, config.bootstrap),
      *verdicts(mode, lines),
    ]
    for mode, lines in by_mode.items()
    if lines
  }
  text = "\n\n".join("\n\n".join([f"## {KINDS[mode]}", *part]) for mode, part in parts.items())
  (workdir / "comparison.md").write_text(text + "\n", encoding="utf-8")
  _write_commands(cells, workdir / "commands.csv")
  pictures = list(_draw(groups, by_group, config.bootstrap, workdir))
  print(f"\n{text}\n")
  for name in ("comparison.csv", "comparison.md", "commands.csv", *pictures):
    print(workdir / name)


def notes(
  mode: str, results_of_mode: Sequence[Result], groups: Sequence[CellGroup], n_bootstrap: int = 1000
) -> Iterator[str]:
  """Yields the notes that a reader of a mode's table needs."""
  if folds := results.folds_note(results_of_mode):
    yield folds
  if mode != "evaluate":
    return
  lines = summary.line_notes(results_of_mode)
  for group in groups:
    if group.scores:
      if group.reference and group.reference not in group.scores.methods:
        lines.append(
          f"{group.dataset}: {group.reference} reconstructs nothing, so the differences of these tasks are those of "
          f"{group.scores.methods[0]} with the others"
        )
      of_channels = summary.channel_results(group.scores, group.dataset, group.seed, n_bootstrap, seed=0)
      lines += summary.channel_notes(of_channels)
    # The truths are the same for every model.
    paths = [(cell.model, path) for cell in group.cells if (path := cell.folder / mode / "clipped.csv").exists()]
    clipped = [row for model, path in paths if model == paths[0][0] for row in clipping.read_csv(path)]
    lines += [f"{group.dataset}, {line}" for line in clipping.notes(clipped)]
  if lines:
    yield "\n".join(f"- {line}" for line in dict.fromkeys(lines))


def _draw(
  groups: Sequence[CellGroup],
  by_group: Mapping[str, Sequence[Sequence[Result]]],
  n_bootstrap: int,
  workdir: pathlib.Path,
) -> Iterator[str]:
  """Draws the generative tasks and the fine-tuning of each dataset and seed; yields the names of the files."""
  for i, group in enumerate(groups):
    of_group = f"{group.dataset}-seed{group.seed}.png"
    if "evaluate" in by_group and group.scores:
      generative_chart(group.scores.table(n_bootstrap, seed=0), workdir / f"generative-{of_group}")
      yield f"generative-{of_group}"
    if "finetune" in by_group and by_group["finetune"][i]:
      draw_learning_curves(by_group["finetune"][i], workdir / f"learning_curve-{of_group}")
      yield f"learning_curve-{of_group}"


def _groups(cells: Sequence[CompareCell], reference: str) -> list[CellGroup]:
  by_dataset_and_seed = collections.defaultdict(list)
  for cell in cells:
    by_dataset_and_seed[cell.dataset, cell.seed].append(cell)
  return [CellGroup(dataset, seed, tuple(of), reference) for (dataset, seed), of in by_dataset_and_seed.items()]


def _results_of_mode(mode: str, groups: Sequence[CellGroup], n_bootstrap: int, bar: tqdm) -> Iterator[list[Result]]:
  """Yields the results of each group."""
  for group in groups:
    of_group = list(_results(mode, group, n_bootstrap))
    # A result of fine-tuning has the seed of the fine-tuning. If that is one, what tells groups apart is the model's.
    if mode == "finetune" and len({result.seed for result in of_group}) == 1:
      of_group = [dataclasses.replace(result, seed=group.seed) for result in of_group]
    yield of_group
    bar.update()


def _results(mode: str, group: CellGroup, n_bootstrap: int) -> Iterable[Result]:
  if mode == "evaluate":
    pooled = group.scores
    return summary.contest_results(pooled, group.dataset, group.seed, n_bootstrap, seed=0) if pooled else []
  paths = group.files(mode, "predictions.csv")
  if mode in ("probe", "finetune"):
    against = (*predictions.BASELINES, *NAMES.values(), *group.other_models)
    return predictions.pool(paths, group.dataset, n_bootstrap, against=against)
  return robustness.score_models(predictions.read_folds(paths, group.dataset), n_bootstrap, 0, group.other_models)


def table(mode: str, results_of_mode: Sequence[Result]) -> str:
  """Markdown with a row per task, level and metric and a column per model: means over seeds, the best in bold."""
  numbers: dict[tuple[str, str, str, str], dict[str, list[Result]]] = collections.defaultdict(
    lambda: collections.defaultdict(list)
  )
  for line in results_of_mode:
    if _shown(mode, line, line.metric):
      numbers[line.dataset, line.task, line.level, line.metric][line.model].append(line)
  models = list(dict.fromkeys(model for row in numbers.values() for model in row))
  lines = [["data", "task", "level", "metric", *models], ["---"] * (4 + len(models))]
  for key, row in numbers.items():
    means = {model: _mean([line.value for line in lines]) for model, lines in row.items()}
    known = [mean for mean in means.values() if not math.isnan(mean)]
    best = (min if metrics.lower_is_better(key[3]) else max)(known, default=math.nan)
    lines.append([*key, *(_field(row.get(model, []), means.get(model, math.nan), best) for model in models)])
  return _markdown(lines)


def verdicts(mode: str, results_of_mode: Sequence[Result]) -> Iterator[str]:
  """Markdown: the paired differences of models, first counted, then a row per question, then what the words mean.

  With several seeds a field counts their outcomes; there is no interval over seeds.
  """
  shown = [line for line in results_of_mode if line.difference and _shown(mode, line, line.difference.metric)]
  # Baselines are compared with the constant alone, which says whether there was anything to know.
  paired = [line for line in shown if line.compares_models and line.model not in predictions.BASELINES]
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
    lines.append([*key, *(tally(row[other], "seeds", same_task=True) if other in row else "-" for other in others)])
  yield _markdown(lines)
  if notes := results.no_better_than_constant(shown):
    yield "\n".join(f"- {note}" for note in notes)
  yield f"Verdicts: {WORDS}"


def _markdown(lines: Iterable[Sequence[str]]) -> str:
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(mode: str, line: Result, metric: str) -> bool:
  """True if a mode's tables show a number of this metric; of robustness they show means over all settings."""
  if mode == "evaluate":
    return metric == "mse"
  if mode == "robustness":
    of_all = line.task.endswith(robustness.MEAN) and metric.split()[0] in HEADLINE
    return of_all and (metric.endswith(" drop %") or (line.compares_models and " vs " not in metric))
  return metric in HEADLINE


def _mean(values: Sequence[float]) -> float:
  known = [value for value in values if not math.isnan(value)]
  return sum(known) / len(known) if known else math.nan


def _field(lines: Sequence[Result], mean: float, best: float) -> str:
  """The mean over seeds, with its interval if there is one seed."""
  if not lines or math.isnan(mean):
    return "-"
  number = f"**{plain_number(mean)}**" if mean == best else plain_number(mean)
  if len(lines) > 1:
    return f"{number} ({counted(len(lines), 'seed')})"
  return number + bounds(lines[0].ci_low, lines[0].ci_high, plain_number)


def _write_commands(cells: Sequence[CompareCell], path: pathlib.Path) -> None:
  lines = []
  for cell in cells:
    finished = job_runner.finished_commands(cell.folder)
    for command in cell.commands:
      seconds = finished[command.fingerprint].seconds
      lines.append([cell.dataset, cell.fold, cell.seed, cell.model, seconds, command.text])
  write_rows(path, ("dataset", "fold", "seed", "model", "seconds", "command"), lines)
